// The system, live: asks webapi once a second what it has heard from every process.

import { start, webapi } from "./api.js";
import { $, h, say } from "./dom.js";
import { rate } from "./format.js";
import { setUpKey } from "./key.js";
import { EDGES, NODES } from "./layout.js";
import { Picture } from "./picture.js";

const PERIOD = 1000; // ms

const narrow = matchMedia("(max-width: 640px)");
const draw = () => new Picture($("picture"), narrow.matches ? "narrow" : "wide");
let picture = draw();
let last = null;
let timer = 0;

const rows = EDGES.flatMap((edge) => edge.flows.map((flow) => {
  const number = h("td", { class: "number" });
  const row = h("tr", {}, h("td", {}, `${edge.from} → ${edge.to}`), h("td", {}, flow.what), number);
  return { edge, flow, row, number };
}));
$("flows").querySelector("tbody").append(...rows.map(({ row }) => row));

function rateOf(edge, flow) {
  const flows = last.services[edge.of].flows;
  return flow.counts.reduce((sum, name) => sum + (flows[name] ?? 0), 0);
}

/** A node's state, and what to say of it. */
function health(name) {
  const { about, server } = NODES[name];
  if (name === "browsers") return { state: "none", words: about };
  if (server) {
    const told = last.servers[name];
    if (told === "ok") return { state: "ok", words: about };
    return told === "unknown" ? { state: "lacking", words: "no news of it" } : { state: "missing", words: "does not answer" };
  }
  const { processes, lacking } = last.services[name];
  if (processes === 0 && last.servers.redis !== "ok") return { state: "lacking", words: "no news: redis is away" };
  if (processes === 0) return { state: "missing", words: "missing: silent for 3 s" };
  const without = Object.keys(lacking);
  if (without.length) return { state: "lacking", words: `without ${without.join(", ")}` };
  return { state: "ok", words: processes > 1 ? `${about}, ${processes} processes` : about };
}

function show() {
  picture.show(health, (edge) => edge.flows.map((flow) => rateOf(edge, flow)));
  for (const { edge, flow, row, number } of rows) {
    const now = rateOf(edge, flow);
    row.classList.toggle("still", now === 0);
    say(number, rate(now));
  }
  const ill = Object.keys(NODES).filter((name) => ["missing", "lacking"].includes(health(name).state));
  say($("summary"), ill.length ? `Look at ${ill.join(", ")}` : "Everything answers");
}

async function look() {
  clearTimeout(timer);
  try {
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
  picture = draw();
  if (last) show();
});
setUpKey(look);
await start();
await look();
