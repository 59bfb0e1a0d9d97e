// The credit: its amount now, and a line of its history since the page was opened.

import { post, webapi } from "./api.js";
import { $, setText } from "./dom.js";
import { credits } from "./format.js";
import { sparkline } from "./plot.js";

const MAX_POINTS = 600; // of the line
const DRAW_INTERVAL = 100; // ms

export class CreditCard {
  current = null; // the latest credit
  #points = [];
  #drawnAt = 0;
  #isScheduled = false;

  constructor() {
    $("topup").addEventListener("submit", (event) => this.#topUp(event));
    setInterval(() => this.current && this.#draw(), 1000);
  }

  clear() {
    this.current = null;
    this.#points = [];
    for (const id of ["credit", "available", "reserved"]) setText($(id), "–");
    $("credit-history").replaceChildren();
  }

  update(credit) {
    this.current = credit;
    this.#points.push([Date.now(), Number(credit.credit)]);
    if (this.#points.length > MAX_POINTS) this.#points = this.#points.filter((_, i) => i % 2 === 0 || i > MAX_POINTS - 50);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setTimeout(() => this.#draw(), Math.max(0, DRAW_INTERVAL - (performance.now() - this.#drawnAt)));
  }

  #draw() {
    this.#isScheduled = false;
    this.#drawnAt = performance.now();
    const { credit, available, reserved } = this.current;
    setText($("credit"), credits(credit));
    setText($("available"), credits(available));
    setText($("reserved"), credits(reserved));
    sparkline($("credit-history"), [...this.#points, [Date.now(), Number(credit)]]);
  }

  async #topUp(event) {
    event.preventDefault();
    const form = event.target;
    setText($("topup-error"), "");
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      await webapi(`/workspaces/${this.current.workspace_id}/topup`, post({ amount: form.amount.value.trim() }));
      form.reset();
    } catch (problem) {
      setText($("topup-error"), problem.message);
    } finally {
      button.disabled = false;
    }
  }
}
