// A paged table of a list from salesapi, with buttons that filter it by status.

import { salesapi } from "./api.js";
import { h, setText } from "./dom.js";

const PAGE_SIZE = 25;

export class PagedTable {
  loaded = false;
  #list;
  #status = "";
  #previous = []; // cursors of the pages before this one
  #cursor = "";
  #next = null;
  #head;
  #body = h("tbody", {});
  #error = h("p", { class: "field-error", role: "alert" });
  #empty = h("p", { class: "quiet", hidden: true });
  #previousButton = h("button", { type: "button", onclick: () => this.#go(-1) }, "Previous");
  #nextButton = h("button", { type: "button", onclick: () => this.#go(1) }, "Next");
  #pageNumber = h("span", { class: "quiet" });

  /** `list`: the path, the list's name, the columns, a row's cells, the statuses to filter by, the text if it is empty. */
  constructor(list) {
    this.#list = list;
    this.#head = h("thead", {}, h("tr", {}, list.columns.map((name) => h("th", { scope: "col", class: kind(name) }, name))));
    const filters = list.filters && h("div", { class: "filters", role: "group", "aria-label": "Status" },
      ["", ...list.filters].map((status) => {
        const choose = (event) => this.#filter(status, event.target);
        return h("button", { type: "button", "aria-pressed": String(status === ""), onclick: choose }, status || "all");
      }));
    this.element = h("div", {},
      filters, this.#error,
      h("div", { class: "scroll" }, h("table", {}, this.#head, this.#body)), this.#empty,
      this.pages = h("div", { class: "pages", hidden: true }, this.#previousButton, this.#nextButton, this.#pageNumber));
  }

  async load() {
    const query = new URLSearchParams({ limit: PAGE_SIZE, cursor: this.#cursor, status: this.#status });
    const request = String(query);
    this.request = request;
    try {
      const page = await salesapi(`${this.#list.path}?${query}`);
      if (this.request === request) this.#show(page);
    } catch (problem) {
      setText(this.#error, problem.message);
    }
  }

  /** Reloads the page, unless the user has focus or a selection in it. */
  refresh() {
    const busy = this.element.contains(document.activeElement) && !document.activeElement.closest(".filters");
    if (!busy && getSelection().isCollapsed) this.load();
  }

  #show(page) {
    const rows = page[this.#list.list];
    this.loaded = true;
    this.#next = page.next_cursor;
    setText(this.#error, "");
    this.#body.replaceChildren(...rows.map((row) =>
      h("tr", {}, this.#list.row(row).map((cell, i) => h("td", { class: kind(this.#list.columns[i]) }, cell)))));
    this.#empty.hidden = rows.length > 0;
    setText(this.#empty, this.#list.empty);
    this.pages.hidden = !this.#previous.length && !this.#next;
    this.#previousButton.disabled = !this.#previous.length;
    this.#nextButton.disabled = !this.#next;
    setText(this.#pageNumber, `page ${this.#previous.length + 1}`);
  }

  #filter(status, button) {
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    [this.#status, this.#cursor, this.#previous] = [status, "", []];
    this.load();
  }

  #go(step) {
    if (step > 0) {
      this.#previous.push(this.#cursor);
      this.#cursor = this.#next;
    } else {
      this.#cursor = this.#previous.pop();
    }
    this.load();
  }
}

const kind = (column) => (column === "Changed" ? "when" : "");
