// The dialog that creates a campaign: fill in, check (nothing is sent yet), then run, schedule or discard.

import { post, salesapi } from "./api.js";
import { $, h, setText } from "./dom.js";
import { count, credits, plural } from "./format.js";
import { countSegments, readTemplate } from "./sms.js";

export class CreateDialog {
  #dialog = $("create");
  #workspace;
  #credit;
  #changed;
  #file = null;

  /** `workspace` and `credit` return the id and the current credit; `changed` is called with each campaign as it is now. */
  constructor(workspace, credit, changed) {
    this.#workspace = workspace;
    this.#credit = credit;
    this.#changed = changed;
    $("new").addEventListener("click", () => this.open());
  }

  open() {
    this.#file = null;
    this.#dialog.replaceChildren(h("h2", { id: "create-title" }, "New campaign"), this.#form());
    if (!this.#dialog.open) this.#dialog.showModal();
    this.#dialog.querySelector("input").focus();
  }

  // The form.

  #form() {
    const name = h("input", { id: "name", required: true, maxlength: 200, autocomplete: "off", placeholder: "Lunch menu" });
    const message = h("textarea", {
      id: "message", rows: 4, required: true, "aria-describedby": "counter", placeholder: "Hei {Contact Name}, salmon soup today!",
    });
    const counter = h("p", { id: "counter", class: "counter" });
    const errors = { name: error(), file: error(), message: error(), other: error() };
    const rows = h("div", { hidden: true });
    const check = h("button", { class: "primary" }, "Check");
    message.addEventListener("input", () => counter.replaceChildren(...counterOf(message.value)));
    counter.append(...counterOf(""));
    const form = h("form", { class: "stack", novalidate: true },
      h("div", { class: "field" }, h("label", { for: "name" }, "Name"), name, errors.name),
      h("div", { class: "field" }, h("label", { for: "file" }, "Contacts"), this.#drop(errors.file), errors.file, rows),
      h("div", { class: "field" }, h("label", { for: "message" }, "Message"), message, counter, errors.message),
      errors.other,
      h("div", { class: "actions end" },
        h("span", { class: "hint" }, "Nothing is sent yet."),
        h("button", { type: "button", onclick: () => this.#dialog.close() }, "Close"), check));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      Object.values(errors).forEach((element) => setText(element, ""));
      rows.hidden = true;
      if (!name.value.trim()) setText(errors.name, "Enter a name.");
      if (!this.#file) setText(errors.file, "Choose a CSV file of contacts.");
      if (!message.value.trim()) setText(errors.message, "Enter a message.");
      if (!name.value.trim() || !this.#file || !message.value.trim()) return;
      await busy(check, "Checking …", () => this.#check(name.value, message.value, errors, rows));
    });
    return form;
  }

  #drop(fileError) {
    const chosen = h("span", {}, h("b", {}, "Drop a CSV here"), " or choose one");
    const input = h("input", { id: "file", type: "file", accept: ".csv,.txt,text/csv", class: "unseen" });
    const drop = h("label", { class: "drop" }, input, chosen, h("br"), h("span", { class: "hint" }, "columns Contact Name and Phone Number"));
    const choose = (file) => {
      this.#file = file ?? null;
      setText(fileError, "");
      chosen.replaceChildren(file ? h("b", {}, file.name) : h("b", {}, "Drop a CSV here"), file ? ` · ${size(file.size)}` : " or choose one");
    };
    input.addEventListener("change", () => choose(input.files[0]));
    drop.addEventListener("dragover", (event) => (event.preventDefault(), drop.classList.add("over")));
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      choose(event.dataTransfer.files[0]);
    });
    return drop;
  }

  async #check(name, message, errors, rows) {
    const form = new FormData();
    form.set("name", name);
    form.set("message", message);
    form.set("workspace_id", this.#workspace());
    form.set("file", this.#file);
    try {
      const created = await salesapi("/create", { method: "POST", body: form });
      this.#changed(await salesapi(`/bulksms/${created.bulksms_id}`));
      this.#preview(created);
    } catch (problem) {
      const [, field, text] = /^(name|file|message): (.*)$/s.exec(problem.message) ?? [null, "other", problem.message];
      setText(errors[field], text);
      if (problem.body?.rejected_rows?.length) {
        rows.replaceChildren(rejectedTable(problem.body.rejected_rows));
        rows.hidden = false;
      }
    }
  }

  // The preview.

  #preview(created) {
    const available = Number(this.#credit()?.available ?? 0);
    const left = available - Number(created.total_cost);
    const refused = created.rejected + created.duplicate;
    const problem = error();
    const run = h("button", { type: "button", class: "primary" }, "Run now");
    const discard = h("button", { type: "button", class: "danger" }, "Discard");
    const act = (path, body) => async () => {
      setText(problem, "");
      try {
        this.#changed(await salesapi(path, post({ bulksms_id: created.bulksms_id, ...body() })));
        this.#dialog.close();
      } catch (error) {
        setText(problem, error.message);
      }
    };
    run.addEventListener("click", () => busy(run, "Starting …", act("/run", () => ({}))));
    discard.addEventListener("click", () => busy(discard, "Discarding …", act("/cancel", () => ({}))));
    this.#dialog.replaceChildren(
      h("h2", { id: "create-title" }, created.name),
      h("div", { class: "stack" },
        h("dl", { class: "figures" },
          figure("Contacts", count(created.accepted), refused ? `of ${plural(created.rows, "row")}` : "every row accepted"),
          figure("Message", plural(created.segments, "segment"), `${created.encoding}, ${plural(created.total_segments, "segment")} in all`),
          figure("Cost", credits(created.total_cost), "credits at most")),
        left >= 0
          ? h("p", { class: "verdict" }, `${credits(available)} credits are available; ${credits(left)} would be left.`)
          : h("p", { class: "verdict short" }, `Only ${credits(available)} credits are available: ${credits(-left)} are missing. Top up, then run it.`),
        refused > 0 && h("div", { class: "field" },
          h("h3", {}, `${plural(created.rejected, "row")} rejected, ${plural(created.duplicate, "duplicate")}`), rejectedTable(created.rejected_rows),
          created.rejected_rows.length < refused && h("p", { class: "hint" }, `These are the first ${created.rejected_rows.length}; the campaign's page lists all.`)),
        this.#later(act, problem),
        h("p", { class: "hint" }, "Nothing is sent yet. If you close this, the campaign stays in the list as a draft."),
        problem,
        h("div", { class: "actions end" }, discard, h("button", { type: "button", onclick: () => this.#dialog.close() }, "Close"), run)));
    run.focus();
  }

  #later(act, problem) {
    const at = h("input", { id: "at", type: "datetime-local" });
    const schedule = h("button", { type: "button" }, "Schedule");
    schedule.addEventListener("click", () => {
      if (!at.value) setText(problem, "Choose a start time.");
      else busy(schedule, "Scheduling …", act("/run", () => ({ scheduled_for: new Date(at.value).toISOString() })));
    });
    return h("div", { class: "later" }, h("label", { for: "at" }, "Or start at"), at, schedule);
  }
}

const error = () => h("p", { class: "field-error", role: "alert" });

const figure = (name, value, more) => h("div", {}, h("dt", {}, name), h("dd", {}, value, h("small", {}, more)));

const size = (bytes) => (bytes < 1e6 ? `${count(Math.ceil(bytes / 1e3))} kB` : `${count(Math.round(bytes / 1e6))} MB`);

const rejectedTable = (rows) => h("div", { class: "rejected", tabindex: "0", role: "region", "aria-label": "Rejected rows" },
  h("table", {},
    h("thead", {}, h("tr", {}, ["Line", "Value", "Reason"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, h("td", {}, count(row.line)), h("td", {}, h("code", {}, row.value)), h("td", {}, row.reason))))));

function counterOf(message) {
  const { literal, columns } = readTemplate(message);
  const { encoding, characters, segments, room } = countSegments(literal);
  const placeholders = columns.length ? ` + ${columns.map((name) => `{${name}}`).join(" ")}` : "";
  return [
    h("span", {}, `${plural(characters, "character")}${placeholders}`),
    h("span", {}, encoding),
    h("span", {}, columns.length ? `at least ${plural(Math.max(segments, 1), "segment")}` : plural(segments, "segment")),
    h("span", {}, `${count(room)} left in this segment`),
  ];
}

async function busy(button, label, work) {
  const before = button.textContent;
  button.disabled = true;
  setText(button, label);
  try {
    await work();
  } finally {
    button.disabled = false;
    setText(button, before);
  }
}
