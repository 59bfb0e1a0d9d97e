// The system, live: asks webapi once a second what every process does and which servers answer.

import { start, webapi } from "./api.js";
import { $, h, say } from "./dom.js";
import { rate } from "./format.js";
import { setUpKey } from "./key.js";
import { Picture } from "./picture.js";

const PERIOD = 1000; // ms

const narrow = matchMedia("(max-width: 640px)");
let topology = null;
let picture = null;
let rows = [];
let last = null;
let timer = 0;

const draw = () => new Picture($("picture"), narrow.matches ? "narrow" : "wide", topology);

async function learnTopology() {
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
  const rates = last.services[arrow.counted_by].flows;
  return traffic.counters.reduce((sum, name) => sum + (rates[name] ?? 0), 0);
}

/** A node's state, and what to say of it. */
function health({ name, kind, about }) {
  if (kind === "client") return { state: "none", words: about };
  if (kind === "server") {
    const state = last.servers[name];
    if (state === "ok") return { state: "ok", words: about };
    return state === "unknown" ? { state: "lacking", words: "state unknown" } : { state: "missing", words: "does not answer" };
  }
  const { processes, lacking } = last.services[name];
  if (processes === 0 && last.servers.redis !== "ok") return { state: "lacking", words: "unknown without redis" };
  if (processes === 0) return { state: "missing", words: "no heartbeat for 3 s" };
  const without = Object.keys(lacking);
  if (without.length) return { state: "lacking", words: `waits for ${without.join(", ")}` };
  return { state: "ok", words: processes > 1 ? `${about}, ${processes} processes` : about };
}

function show() {
  picture.show(health, (arrow) => arrow.traffic.map((traffic) => rateOf(arrow, traffic)));
  for (const { arrow, traffic, row, number } of rows) {
    const now = rateOf(arrow, traffic);
    row.classList.toggle("still", now === 0);
    say(number, rate(now));
  }
  const ill = topology.nodes.filter((node) => ["missing", "lacking"].includes(health(node).state));
  say($("summary"), ill.length ? `Needs attention: ${ill.map(({ name }) => name).join(", ")}` : "Everything answers");
}

async function look() {
  clearTimeout(timer);
  try {
    if (!topology) await learnTopology();
    last = await webapi("/system/flows");
    connection("live", "live");
    $("notice").hidden = true;
    show();
  } catch (problem) {
    say($("notice"), problem.message);
    $("notice").hidden = false;
    if ([401, 403].includes(problem.status)) {
      connection("refused", "needs another key"); // and is asked again with that
      return;
    }
    connection("lost", "disconnected, trying again");
  }
  timer = setTimeout(look, PERIOD);
}

function connection(state, words) {
  $("connection").dataset.state = state;
  say($("connection"), words);
}

narrow.addEventListener("change", () => {
  if (!topology) return;
  picture = draw();
  if (last) show();
});
setUpKey(look);
await start();
await look();
