// The dashboard: puts its parts together, and passes each update on to those that show it.

import { salesapi, start, webapi } from "./api.js";
import { CampaignPage } from "./campaign.js";
import { CampaignList } from "./campaigns.js";
import { CreateDialog } from "./create.js";
import { CreditCard } from "./credit.js";
import { $, h, setText } from "./dom.js";
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
const list = new CampaignList(updateCampaign);
let page = null;
let workspace = localStorage.getItem(WORKSPACE) ?? SAMPLE;

new CreateDialog(() => workspace, () => credit.current, updateCampaign);
setUpKey(showWorkspace);
$("legend").append(...STATUSES.map((status) => h("li", { "data-status": status }, status)));

/** Takes a campaign as it is now, from a response or the WebSocket. */
function updateCampaign(json) {
  if (json.deleted) return removeCampaign(json.bulksms_id);
  let campaign = campaigns.get(json.bulksms_id);
  const before = campaign?.status;
  if (campaign) campaign.update(json);
  else campaigns.set(json.bulksms_id, (campaign = new Campaign(json)));
  if (json.workspace_id === workspace) list.show(campaign);
  if (page?.campaign === campaign) page.update();
  if (before && before !== campaign.status && campaign.status === "completed") {
    setText($("announce"), `${campaign.name} is completed: ${campaign.summary}`);
  }
}

function removeCampaign(id) {
  setText($("announce"), `${campaigns.get(id)?.name} is deleted`);
  campaigns.delete(id);
  list.remove(id);
  $("none").hidden = campaigns.size > 0;
  if (location.hash.slice(1) === id) location.hash = "";
}

/** Shows the chosen workspace, after clearing what was shown. */
function showWorkspace() {
  campaigns.clear();
  list.clear();
  credit.clear();
  setText($("notice"), "");
  $("notice").hidden = true;
  showState("connecting");
  live.watch(workspace);
  loadWorkspaces();
  loadCampaigns(workspace);
  route();
}

/** Loads a page of campaigns: the WebSocket sends only the newest. */
async function loadCampaigns(of, cursor = "") {
  try {
    const result = await salesapi(`/bulksms?${new URLSearchParams({ workspace_id: of, limit: 100, cursor })}`);
    if (of !== workspace) return;
    result.bulksms.forEach((campaign) => campaigns.has(campaign.bulksms_id) || updateCampaign(campaign));
    $("none").hidden = campaigns.size > 0;
    $("older").hidden = !result.next_cursor;
    $("older").onclick = () => loadCampaigns(of, result.next_cursor);
  } catch (problem) {
    notice(problem.message);
  }
}

async function loadWorkspaces() {
  const choices = new Map([[workspace, workspace]]);
  try {
    const { workspaces, next_cursor: more } = await webapi("/workspaces");
    const isListed = workspaces.some(({ workspace_id: id }) => id === workspace);
    if (workspaces.length && !more && !isListed) {
      choose(workspaces[0].workspace_id); // the key is of another workspace, or the data is new
      return;
    }
    for (const { workspace_id: id, name } of workspaces) choices.set(id, name);
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
  showWorkspace();
}

/** Shows the page of the campaign that the address names, or the list. */
async function route() {
  const id = location.hash.slice(1);
  if (id && !campaigns.has(id)) await salesapi(`/bulksms/${id}`).then(updateCampaign, (problem) => notice(problem.message));
  if (location.hash.slice(1) !== id) return; // the user has moved on meanwhile
  page?.close();
  page = null;
  const campaign = campaigns.get(id);
  $("overview").hidden = Boolean(campaign);
  $("detail").hidden = !campaign;
  document.title = campaign ? `${campaign.name} · Bulk SMS` : "Bulk SMS";
  if (!campaign) return;
  page = new CampaignPage(campaign, (json) => {
    updateCampaign(json);
    if (json.bulksms_id !== campaign.id) location.hash = json.bulksms_id;
  });
  $("detail").replaceChildren(page.element);
  scrollTo(0, 0);
}

function notice(text) {
  setText($("notice"), text);
  $("notice").hidden = false;
}

function showState(state) {
  const recovered = $("connection").dataset.state === "lost" && state === "live";
  if (state === "refused" || recovered) $("notice").hidden = true;
  if (recovered) loadCampaigns(workspace);
  $("connection").dataset.state = state;
  setText($("connection"), STATES[state]);
}

live.addEventListener("state", ({ detail }) => showState(detail));
live.addEventListener("error", ({ detail }) => notice(detail));
live.addEventListener("campaign", ({ detail }) => updateCampaign(detail));
live.addEventListener("credit", ({ detail }) => {
  credit.update(detail);
  const option = $("workspace").selectedOptions[0];
  if (option?.value === detail.workspace_id) setText(option, detail.name);
});
addEventListener("hashchange", async () => {
  await route();
  page?.focus();
});
$("workspace").addEventListener("change", (event) => choose(event.target.value));

// For screen readers: the credit now and then, not at every change.
let announced = null;
setInterval(() => {
  if (credit.current && announced !== null && credit.current.credit !== announced) setText($("announce"), `Credit ${count(credit.current.credit)}`);
  announced = credit.current?.credit ?? null;
}, 15000);

await start();
showWorkspace();
