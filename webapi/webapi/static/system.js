// The live system: once a second asks webapi for the traffic of each process and the servers that answer.

import { start, webapi } from "./api.js";
import { $, h, setText } from "./dom.js";
import { rate } from "./format.js";
import { setUpKey } from "./key.js";
import { Picture } from "./picture.js";

const PERIOD = 1000; // ms

const narrow = matchMedia("(max-width: 640px)");
let topology = null;
let picture = null;
let rows = [];
let status = null;
let timer = 0;

const draw = () => new Picture($("picture"), narrow.matches ? "narrow" : "wide", topology);

async function loadTopology() {
  topology = await webapi("/system/topology");
  picture = draw();
  rows = topology.arrows.flatMap((arrow) => arrow.traffic.map((traffic) => {
    const number = h("td", { class: "number" });
    const row = h("tr", {}, h("td", {}, `${arrow.source} → ${arrow.target}`), h("td", {}, traffic.label), number);
    return { arrow, traffic, row, number };
  }));
  $("traffic").querySelector("tbody").append(...rows.map(({ row }) => row));
}

function rateOf(arrow, traffic) {
  const rates = status.services[arrow.counted_by].flows;
  return traffic.counters.reduce((sum, name) => sum + (rates[name] ?? 0), 0);
}

/** A node's state, and the words that describe it. */
function health({ name, kind, about }) {
  if (kind === "client") return { state: "none", words: about };
  if (kind === "server") {
    const state = status.servers[name];
    if (state === "ok") return { state: "ok", words: about };
    return state === "unknown" ? { state: "lacking", words: "state unknown" } : { state: "missing", words: "does not answer" };
  }
  const { processes, lacking } = status.services[name];
  if (processes === 0 && status.servers.redis !== "ok") return { state: "lacking", words: "unknown: redis is down" };
  if (processes === 0) return { state: "missing", words: "no heartbeat for 3 s" };
  const missing = Object.keys(lacking);
  if (missing.length) return { state: "lacking", words: `waiting for ${missing.join(", ")}` };
  return { state: "ok", words: processes > 1 ? `${about}, ${processes} processes` : about };
}

function show() {
  picture.show(health, (arrow) => arrow.traffic.map((traffic) => rateOf(arrow, traffic)));
  for (const { arrow, traffic, row, number } of rows) {
    const now = rateOf(arrow, traffic);
    row.classList.toggle("still", now === 0);
    setText(number, rate(now));
  }
  const unhealthy = topology.nodes.filter((node) => ["missing", "lacking"].includes(health(node).state));
  setText($("summary"), unhealthy.length ? `Needs attention: ${unhealthy.map(({ name }) => name).join(", ")}` : "Everything answers");
}

async function refresh() {
  clearTimeout(timer);
  try {
    if (!topology) await loadTopology();
    status = await webapi("/system/flows");
    connection("live", "live");
    $("notice").hidden = true;
    show();
  } catch (problem) {
    setText($("notice"), problem.message);
    $("notice").hidden = false;
    if ([401, 403].includes(problem.status)) {
      connection("refused", "needs another key"); // the dialog's callback refreshes with that key
      return;
    }
    connection("lost", "disconnected, trying again");
  }
  timer = setTimeout(refresh, PERIOD);
}

function connection(state, words) {
  $("connection").dataset.state = state;
  setText($("connection"), words);
}

narrow.addEventListener("change", () => {
  if (!topology) return;
  picture = draw();
  if (status) show();
});
setUpKey(refresh);
await start();
await refresh();
