// The history of a campaign: from the server for the time before this page was opened, and live since then.

import { h, setText, svg } from "./dom.js";
import { count, duration, when } from "./format.js";
import { timeline } from "./plot.js";

const MAX_MOMENTS = 400;

export class History {
  #campaign;
  #moments = [];
  #liveFrom = 0; // ms since 1970: the start of the live part; 0 if there is none
  #plot = svg("svg", { class: "plot", role: "img" });
  #scale = h("div", { class: "plot-scale" }, h("span", {}), h("span", {}), h("span", {}));
  #note = h("p", { class: "hint" });

  constructor(campaign) {
    this.#campaign = campaign;
    this.element = h("section", { class: "card", hidden: true }, h("h2", {}, "Over time"), this.#plot, this.#scale, this.#note);
  }

  /** Takes the server's moments; of a campaign that has ended they are the whole history. */
  load(timeline) {
    const moments = timeline.map((moment) => ({ ...moment, at: Date.parse(moment.at) }));
    const last = moments.at(-1)?.at ?? 0;
    const ended = Boolean(this.#campaign.completedAt);
    this.#moments = ended ? moments : [...moments, ...this.#moments.filter((moment) => moment.at > last)];
    this.#liveFrom = ended ? 0 : last;
    this.#draw();
  }

  /** Adds the counts as they are now. */
  update() {
    const { startedAt, completedAt, counts } = this.#campaign;
    if (!startedAt || completedAt) return;
    const at = Math.max(Date.now(), this.#moments.at(-1)?.at ?? 0); // the server's clock may be ahead of ours
    this.#moments.push({ at, ...counts });
    if (this.#moments.length > MAX_MOMENTS) this.#moments = this.#moments.filter((_, i) => i % 2 === 0 || i > MAX_MOMENTS - 50);
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
    setText(left, when(first));
    setText(middle, `${count(campaign.total)} contacts, in ${duration(last - first)}`);
    setText(right, when(last));
    setText(this.#note, this.#liveFrom
      ? "Live from the dotted line on. Before it, each message is shown from its last change of status on, since earlier ones are not stored."
      : "Each message is shown from its last change of status on: once it is delivered, the time it was sent is not stored.");
  }
}
