// The credit: its amount now, and a line of what it was since the page was opened.

import { post, webapi } from "./api.js";
import { $, say } from "./dom.js";
import { credits } from "./format.js";
import { sparkline } from "./plot.js";

const MOST = 600; // points of the line
const FRAME = 100; // ms between two drawings

export class CreditCard {
  now = null; // the newest news
  #points = [];
  #drawn = 0;
  #waiting = false;

  constructor() {
    $("topup").addEventListener("submit", (event) => this.#topUp(event));
    setInterval(() => this.now && this.#draw(), 1000);
  }

  clear() {
    this.now = null;
    this.#points = [];
    for (const id of ["credit", "available", "reserved"]) say($(id), "–");
    $("credit-history").replaceChildren();
  }

  update(news) {
    this.now = news;
    this.#points.push([Date.now(), Number(news.credit)]);
    if (this.#points.length > MOST) this.#points = this.#points.filter((_, i) => i % 2 === 0 || i > MOST - 50);
    if (this.#waiting) return;
    this.#waiting = true;
    setTimeout(() => this.#draw(), Math.max(0, FRAME - (performance.now() - this.#drawn)));
  }

  #draw() {
    this.#waiting = false;
    this.#drawn = performance.now();
    const { credit, available, reserved } = this.now;
    say($("credit"), credits(credit));
    say($("available"), credits(available));
    say($("reserved"), credits(reserved));
    sparkline($("credit-history"), [...this.#points, [Date.now(), Number(credit)]]);
  }

  async #topUp(event) {
    event.preventDefault();
    const form = event.target;
    say($("topup-error"), "");
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await webapi(`/workspaces/${this.now.workspace_id}/topup`, post({ amount: form.amount.value.trim() }));
      form.reset();
    } catch (problem) {
      say($("topup-error"), problem.message);
    } finally {
      button.disabled = false;
    }
  }
}
