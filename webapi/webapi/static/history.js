// How a campaign went: what the server tells of the time before this page was opened, and what the page has seen since.

import { h, say, svg } from "./dom.js";
import { count, duration, when } from "./format.js";
import { timeline } from "./plot.js";

const MOST = 400; // moments that are kept

export class History {
  #campaign;
  #moments = [];
  #liveFrom = 0; // from when on the page has seen every status itself; 0 for never
  #plot = svg("svg", { class: "plot", role: "img" });
  #scale = h("div", { class: "plot-scale" }, h("span", {}), h("span", {}), h("span", {}));
  #note = h("p", { class: "hint" });

  constructor(campaign) {
    this.#campaign = campaign;
    this.element = h("section", { class: "card", hidden: true }, h("h2", {}, "Over time"), this.#plot, this.#scale, this.#note);
  }

  /** Takes the server's moments: of a campaign that has ended they are all there is to know. */
  load(told) {
    const moments = told.map((moment) => ({ ...moment, at: Date.parse(moment.at) }));
    const last = moments.at(-1)?.at ?? 0;
    const ended = Boolean(this.#campaign.completedAt);
    this.#moments = ended ? moments : [...moments, ...this.#moments.filter((moment) => moment.at > last)];
    this.#liveFrom = ended ? 0 : last;
    this.#draw();
  }

  /** Takes where the campaign stands now. */
  update() {
    const { startedAt, completedAt, counts } = this.#campaign;
    if (!startedAt || completedAt) return;
    const at = Math.max(Date.now(), this.#moments.at(-1)?.at ?? 0); // the server's clock may be ahead of ours
    this.#moments.push({ at, ...counts });
    if (this.#moments.length > MOST) this.#moments = this.#moments.filter((_, i) => i % 2 === 0 || i > MOST - 50);
    this.#draw();
  }

  #draw() {
    const campaign = this.#campaign;
    this.element.hidden = this.#moments.length < 2;
    if (this.element.hidden) return;
    timeline(this.#plot, this.#moments, campaign.total, this.#liveFrom);
    this.#plot.setAttribute("aria-label", `Statuses over time; now ${campaign.summary}`);
    const [first, last] = [this.#moments[0].at, this.#moments.at(-1).at];
    const [left, middle, right] = this.#scale.children;
    say(left, when(first));
    say(middle, `${count(campaign.total)} contacts, in ${duration(last - first)}`);
    say(right, when(last));
    say(this.#note, this.#liveFrom
      ? "From the dotted line on as this page sees it; before, each message from its last step on, as only that is kept."
      : "Each message from its last step on: when it was sent is not kept once it is delivered.");
  }
}
