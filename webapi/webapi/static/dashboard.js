// The dashboard: puts its parts together, and hands each what it needs to know.

import { salesapi, start, webapi } from "./api.js";
import { CampaignPage } from "./campaign.js";
import { CampaignList } from "./campaigns.js";
import { CreateDialog } from "./create.js";
import { CreditCard } from "./credit.js";
import { $, h, say } from "./dom.js";
import { count } from "./format.js";
import { setUpKey } from "./key.js";
import { Live } from "./live.js";
import { Campaign, STATUSES } from "./model.js";

const WORKSPACE = "bulksms-workspace";
const SAMPLE = "00000000-0000-7000-8000-000000000001";
const STATES = { connecting: "connecting", live: "live", lost: "disconnected, trying again", refused: "needs a key" };

const campaigns = new Map();
const live = new Live();
const credit = new CreditCard();
const list = new CampaignList(take);
let page = null;
let workspace = localStorage.getItem(WORKSPACE) ?? SAMPLE;

new CreateDialog(() => workspace, () => credit.now, take);
setUpKey(begin);
$("legend").append(...STATUSES.map((status) => h("li", { "data-status": status }, status)));

/** A campaign as it is now, from whoever told it. */
function take(json) {
  let campaign = campaigns.get(json.bulksms_id);
  const before = campaign?.status;
  if (campaign) campaign.update(json);
  else campaigns.set(json.bulksms_id, (campaign = new Campaign(json)));
  if (json.workspace_id === workspace) list.show(campaign);
  if (page?.campaign === campaign) page.update();
  if (before && before !== campaign.status && campaign.status === "completed") {
    say($("announce"), `${campaign.name} is completed: ${campaign.summary}`);
  }
}

/** Watches the chosen workspace, from nothing. */
function begin() {
  campaigns.clear();
  list.clear();
  credit.clear();
  say($("notice"), "");
  $("notice").hidden = true;
  showState("connecting");
  live.watch(workspace);
  loadWorkspaces();
  loadCampaigns(workspace);
  route();
}

/** A page of campaigns: the news tell of the newest only, and of none where there are none. */
async function loadCampaigns(of, cursor = "") {
  try {
    const found = await salesapi(`/bulksms?${new URLSearchParams({ workspace_id: of, limit: 100, cursor })}`);
    if (of !== workspace) return;
    found.bulksms.forEach((one) => campaigns.has(one.bulksms_id) || take(one));
    $("none").hidden = campaigns.size > 0;
    $("older").hidden = !found.next_cursor;
    $("older").onclick = () => loadCampaigns(of, found.next_cursor);
  } catch (problem) {
    notice(problem.message);
  }
}

async function loadWorkspaces() {
  const choices = new Map([[workspace, workspace]]);
  try {
    const { workspaces, next_cursor: more } = await webapi("/workspaces");
    const ours = workspaces.some((one) => one.workspace_id === workspace);
    if (workspaces.length && !more && !ours) {
      choose(workspaces[0].workspace_id); // a key of another workspace, or other data than the last time
      return;
    }
    for (const one of workspaces) choices.set(one.workspace_id, one.name);
  } catch (problem) {
    if (problem.status !== 403) notice(problem.message);
  }
  const options = [...choices].map(([id, name]) => h("option", { value: id, selected: id === workspace }, name));
  $("workspace").replaceChildren(...options, h("option", { value: "" }, "Another, by id …"));
}

function choose(id) {
  if (!id) id = prompt("The workspace's id")?.trim();
  if (id) localStorage.setItem(WORKSPACE, (workspace = id));
  location.hash = "";
  begin();
}

/** The page of the campaign that the address names, or all of them. */
async function route() {
  const id = location.hash.slice(1);
  if (id && !campaigns.has(id)) await salesapi(`/bulksms/${id}`).then(take, (problem) => notice(problem.message));
  if (location.hash.slice(1) !== id) return; // someone has gone on meanwhile
  page?.close();
  page = null;
  const campaign = campaigns.get(id);
  $("overview").hidden = Boolean(campaign);
  $("detail").hidden = !campaign;
  document.title = campaign ? `${campaign.name} · Bulk SMS` : "Bulk SMS";
  if (!campaign) return;
  page = new CampaignPage(campaign, (json) => {
    take(json);
    if (json.bulksms_id !== campaign.id) location.hash = json.bulksms_id;
  });
  $("detail").replaceChildren(page.element);
  scrollTo(0, 0);
}

function notice(text) {
  say($("notice"), text);
  $("notice").hidden = false;
}

function showState(state) {
  const recovered = $("connection").dataset.state === "lost" && state === "live";
  if (state === "refused" || recovered) $("notice").hidden = true;
  if (recovered) loadCampaigns(workspace);
  $("connection").dataset.state = state;
  say($("connection"), STATES[state]);
}

live.addEventListener("state", ({ detail }) => showState(detail));
live.addEventListener("mistake", ({ detail }) => notice(detail));
live.addEventListener("campaign", ({ detail }) => take(detail));
live.addEventListener("credit", ({ detail }) => {
  credit.update(detail);
  const option = $("workspace").selectedOptions[0];
  if (option?.value === detail.workspace_id) say(option, detail.name);
});
addEventListener("hashchange", async () => {
  await route();
  page?.focus();
});
$("workspace").addEventListener("change", (event) => choose(event.target.value));

// For whoever does not see the credit tick: now and then, not at each tenth.
let spoken = null;
setInterval(() => {
  if (credit.now && spoken !== null && credit.now.credit !== spoken) say($("announce"), `Credit ${count(credit.now.credit)}`);
  spoken = credit.now?.credit ?? null;
}, 15000);

await start();
begin();
