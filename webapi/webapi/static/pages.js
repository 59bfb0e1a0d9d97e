// A table of what salesapi gives in pages, with buttons that filter it by status.

import { salesapi } from "./api.js";
import { h, say } from "./dom.js";

const LIMIT = 25;

export class Pages {
  loaded = false;
  #of;
  #status = "";
  #before = []; // cursors of the pages before this one
  #cursor = "";
  #next = null;
  #head;
  #body = h("tbody", {});
  #error = h("p", { class: "field-error", role: "alert" });
  #empty = h("p", { class: "quiet", hidden: true });
  #back = h("button", { type: "button", onclick: () => this.#go(-1) }, "Previous");
  #forth = h("button", { type: "button", onclick: () => this.#go(1) }, "Next");
  #place = h("span", { class: "quiet" });

  /** `of`: the path, the list's name, the columns, a row's cells, the statuses to filter by, what an empty one says. */
  constructor(of) {
    this.#of = of;
    this.#head = h("thead", {}, h("tr", {}, of.columns.map((name) => h("th", { scope: "col", class: kind(name) }, name))));
    const filters = of.filters && h("div", { class: "filters", role: "group", "aria-label": "Status" },
      ["", ...of.filters].map((status) => {
        const choose = (event) => this.#filter(status, event.target);
        return h("button", { type: "button", "aria-pressed": String(status === ""), onclick: choose }, status || "all");
      }));
    this.element = h("div", {},
      filters, this.#error,
      h("div", { class: "scroll" }, h("table", {}, this.#head, this.#body)), this.#empty,
      this.pages = h("div", { class: "pages", hidden: true }, this.#back, this.#forth, this.#place));
  }

  async load() {
    const query = new URLSearchParams({ limit: LIMIT, cursor: this.#cursor, status: this.#status });
    const asked = String(query);
    this.asked = asked;
    try {
      const page = await salesapi(`${this.#of.path}?${query}`);
      if (this.asked === asked) this.#show(page);
    } catch (problem) {
      say(this.#error, problem.message);
    }
  }

  /** Reads the page anew, unless someone is reading in it. */
  refresh() {
    const busy = this.element.contains(document.activeElement) && !document.activeElement.closest(".filters");
    if (!busy && getSelection().isCollapsed) this.load();
  }

  #show(page) {
    const rows = page[this.#of.list];
    this.loaded = true;
    this.#next = page.next_cursor;
    say(this.#error, "");
    this.#body.replaceChildren(...rows.map((row) =>
      h("tr", {}, this.#of.row(row).map((cell, i) => h("td", { class: kind(this.#of.columns[i]) }, cell)))));
    this.#empty.hidden = rows.length > 0;
    say(this.#empty, this.#of.empty);
    this.pages.hidden = !this.#before.length && !this.#next;
    this.#back.disabled = !this.#before.length;
    this.#forth.disabled = !this.#next;
    say(this.#place, `page ${this.#before.length + 1}`);
  }

  #filter(status, button) {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    [this.#status, this.#cursor, this.#before] = [status, "", []];
    this.load();
  }

  #go(step) {
    if (step > 0) {
      this.#before.push(this.#cursor);
      this.#cursor = this.#next;
    } else {
      this.#cursor = this.#before.pop();
    }
    this.load();
  }
}

const kind = (column) => (column === "Changed" ? "when" : "");
