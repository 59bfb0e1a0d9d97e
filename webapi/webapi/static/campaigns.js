// The list of campaigns: one card each, kept up to date in place.

import { Actions } from "./actions.js";
import { $, h, setText } from "./dom.js";
import { count, credits, duration, plural, rate, when } from "./format.js";
import { STATUSES, STATE_LABELS } from "./model.js";

/** A stacked bar of a campaign's statuses. */
export class Bar {
  #parts = STATUSES.map((status) => h("span", { "data-status": status }));

  constructor(kind = "") {
    this.element = h("div", { class: `bar ${kind}`, role: "img" }, this.#parts);
  }

  update(campaign) {
    STATUSES.forEach((status, i) => {
      const part = this.#parts[i];
      part.hidden = campaign.counts[status] === 0;
      part.style.width = `${(100 * campaign.counts[status]) / campaign.total}%`;
    });
    this.element.setAttribute("aria-label", campaign.summary);
  }
}

/** When the campaign ran and how long it took. */
export function timing(campaign) {
  if (campaign.status === "scheduled") return `starts ${when(campaign.scheduledFor)}`;
  if (campaign.completedAt && campaign.startedAt) {
    return `${when(campaign.startedAt)}, took ${duration(new Date(campaign.completedAt) - new Date(campaign.startedAt))}`;
  }
  return campaign.startedAt ? `started ${when(campaign.startedAt)}` : `created ${when(campaign.createdAt)}`;
}

/** The state in words, with the reason if it paused by itself. */
export function stateLabel(campaign) {
  return STATE_LABELS[campaign.status] + (campaign.pauseReason ? `: ${campaign.pauseReason}` : "");
}

class Card {
  #state = h("span", { class: "state" });
  #time = h("span", { class: "state" });
  #bar = new Bar();
  #reached = h("span", {});
  #cost = h("span", {});
  #rate = h("span", { class: "rate" });

  constructor(campaign, changed) {
    this.campaign = campaign;
    this.actions = new Actions(campaign, changed);
    this.element = h("article", { class: "card campaign", "data-id": campaign.id },
      h("div", { class: "head" }, h("h3", {}, h("a", { href: `#${campaign.id}` }, campaign.name)), this.#state, this.#time),
      this.actions.element,
      this.#bar.element,
      h("div", { class: "facts-line" }, this.#reached, this.#cost, this.#rate),
      this.actions.error);
  }

  update() {
    const { campaign } = this;
    this.actions.update();
    this.#state.dataset.state = campaign.status;
    setText(this.#state, stateLabel(campaign));
    setText(this.#time, timing(campaign));
    this.#bar.update(campaign);
    const { delivered } = campaign.counts;
    const failed = campaign.failedToReach ? `, ${count(campaign.failedToReach)} not reached` : "";
    setText(this.#reached, campaign.startedAt ? `${count(delivered)} of ${count(campaign.total)} delivered${failed}` : plural(campaign.total, "contact"));
    setText(this.#cost, campaign.startedAt ? `${credits(campaign.charged)} credits charged` : `costs ${credits(campaign.cost)} credits`);
    this.tick();
  }

  tick() {
    setText(this.#rate, this.campaign.status === "inprogress" ? `${rate(this.campaign.rate)} messages/s` : "");
  }
}

export class CampaignList {
  #cards = new Map();
  #changed;

  constructor(changed) {
    this.#changed = changed;
    setInterval(() => this.#cards.forEach((card) => card.tick()), 500);
  }

  clear() {
    this.#cards.clear();
    $("campaigns").replaceChildren();
  }

  remove(id) {
    this.#cards.get(id)?.element.remove();
    this.#cards.delete(id);
  }

  /** Newest first: ids grow with time. */
  show(campaign) {
    let card = this.#cards.get(campaign.id);
    if (!card) {
      card = new Card(campaign, this.#changed);
      this.#cards.set(campaign.id, card);
      const older = [...$("campaigns").children].find((other) => other.dataset.id < campaign.id);
      $("campaigns").insertBefore(card.element, older ?? null);
    }
    card.update();
    $("none").hidden = true;
  }
}
