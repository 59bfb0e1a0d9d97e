// The page of one campaign: its progress, its history, its contacts by status and its rejected rows.

import { Actions, resultsLink } from "./actions.js";
import { salesapi } from "./api.js";
import { Bar, stateLabel, timing } from "./campaigns.js";
import { h, setText } from "./dom.js";
import { count, credits, rate, when } from "./format.js";
import { History } from "./history.js";
import { STATUSES } from "./model.js";
import { PagedTable } from "./pages.js";

const REFRESH_PERIOD = 2000; // ms, for the contacts of a campaign that is sending

export class CampaignPage {
  #state = h("span", { class: "state" });
  #time = h("span", { class: "state" });
  #bar = new Bar("tall");
  #counts = Object.fromEntries(STATUSES.map((status) => [status, h("dd", {}, "–")]));
  #facts = h("dl", { class: "facts" });
  #message = h("p", { class: "message", hidden: true });
  #title;
  #actions;
  #history;
  #contacts;
  #rejected;
  #rejectedCard;
  #details = null; // what the WebSocket does not send
  #isFinal = false; // all is loaded, and nothing will change
  #timer;

  /** `changed` is called with the campaigns that its buttons change or create. */
  constructor(campaign, changed) {
    this.campaign = campaign;
    this.#title = h("h1", { tabindex: "-1" }, campaign.name);
    this.#actions = new Actions(campaign, changed);
    this.#history = new History(campaign);
    this.#contacts = new PagedTable(contactsOf(campaign.id));
    this.#rejected = new PagedTable(rejectedOf(campaign.id));
    this.#rejectedCard = h("section", { class: "card stack", hidden: true }, h("h2", {}, "Rejected rows"), this.#rejected.element);
    this.element = h("div", { class: "detail" },
      h("p", {}, h("a", { href: "#" }, "← All campaigns")),
      h("div", { class: "detail-head" }, this.#title, this.#state, this.#time, this.#actions.element),
      this.#actions.error,
      h("section", { class: "card", "aria-label": "Progress" },
        this.#bar.element,
        h("dl", { class: "counts" }, STATUSES.map((status) =>
          h("div", {}, h("dt", { class: "status-mark", "data-status": status }, status), this.#counts[status])))),
      this.#history.element,
      h("section", { class: "card", "aria-label": "Details" }, this.#facts, this.#message),
      h("section", { class: "card" },
        h("div", { class: "section-head" }, h("h2", {}, "Contacts"), resultsLink(campaign, this.#actions.error)),
        this.#contacts.element),
      this.#rejectedCard);
    this.update();
    if (!this.#isFinal) this.#load();
    this.#timer = setInterval(() => this.#refresh(), REFRESH_PERIOD);
  }

  focus() {
    this.#title.focus();
  }

  close() {
    clearInterval(this.#timer);
  }

  /** Shows the campaign as it is now. */
  update() {
    const { campaign } = this;
    this.#actions.update();
    this.#state.dataset.state = campaign.status;
    setText(this.#state, stateLabel(campaign));
    this.#showTime();
    this.#bar.update(campaign);
    for (const status of STATUSES) setText(this.#counts[status], count(campaign.counts[status]));
    this.#history.update();
    this.#showFacts();
    if (campaign.completedAt && !this.#isFinal) this.#load();
  }

  /** Loads what the WebSocket does not send: the message, the rows, and the history from before this page was opened. */
  async #load() {
    const { id, completedAt } = this.campaign;
    this.#isFinal = Boolean(completedAt);
    try {
      const [details, timeline] = await Promise.all([salesapi(`/bulksms/${id}`), salesapi(`/bulksms/${id}/timeline`)]);
      this.#details = details;
      this.#history.load(timeline.moments);
      this.#showFacts();
    } catch (problem) {
      setText(this.#actions.error, problem.message);
      return;
    }
    this.#rejectedCard.hidden = this.#details.rejected + this.#details.duplicate === 0;
    await Promise.all([this.#contacts.load(), this.#rejectedCard.hidden || this.#rejected.load()]);
  }

  #refresh() {
    this.#showTime();
    if (this.campaign.status === "inprogress" && !document.hidden) this.#contacts.refresh();
  }

  #showTime() {
    const speed = this.campaign.rate;
    setText(this.#time, timing(this.campaign) + (speed ? `, ${rate(speed)} messages/s` : ""));
  }

  #showFacts() {
    const { campaign } = this;
    const details = this.#details;
    const facts = [
      ["Accepted", count(campaign.total)],
      details && ["Rejected", count(details.rejected)],
      details && ["Duplicate", count(details.duplicate)],
      details && ["Longest message", `${details.segments} × ${details.encoding}`],
      ["Cost", `${credits(campaign.cost)} credits`],
      ["Charged", `${credits(campaign.charged)} credits`],
      campaign.unsent > 0 && ["Will not be sent", count(campaign.unsent)],
      ["Created", when(campaign.createdAt)],
      campaign.scheduledFor && ["Scheduled for", when(campaign.scheduledFor)],
      campaign.startedAt && ["Started", when(campaign.startedAt)],
      campaign.completedAt && ["Completed", when(campaign.completedAt)],
    ].filter(Boolean);
    const content = facts.flat().join("|");
    if (this.#facts.dataset.content === content) return;
    this.#facts.dataset.content = content;
    this.#facts.replaceChildren(...facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
    this.#message.hidden = !details;
    if (details) setText(this.#message, details.message);
  }
}

const contactsOf = (id) => ({
  path: `/bulksms/${id}/contacts`,
  list: "contacts",
  filters: STATUSES,
  columns: ["Number", "Name", "Status", "Changed"],
  empty: "No contacts with this status.",
  row: (contact) => [
    contact.contact_number,
    contact.contact_name,
    h("span", { class: "status-mark", "data-status": contact.sms_status }, contact.sms_status + (contact.error_code ? `: ${contact.error_code}` : "")),
    when(contact.modified_at),
  ],
});

const rejectedOf = (id) => ({
  path: `/bulksms/${id}/rejected`,
  list: "rejected",
  columns: ["Line", "Value", "Reason"],
  empty: "Every row was accepted.",
  row: (row) => [count(row.line), h("code", {}, row.value), row.reason],
});
