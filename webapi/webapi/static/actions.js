// The buttons of a campaign, and the line below them that says why an action failed.

import { download, getKey, post, salesapi, salesapiLink } from "./api.js";
import { h, setText, confirmButton } from "./dom.js";
import { ACTIONS } from "./model.js";

export class Actions {
  element = h("div", { class: "actions" });
  error = h("p", { class: "field-error", role: "alert" });
  #campaign;
  #changed;
  #shown = "";

  /** `changed` is called with salesapi's response: the campaign as it is now, or a new one; or with one that is deleted. */
  constructor(campaign, changed) {
    this.#campaign = campaign;
    this.#changed = changed;
    this.update();
  }

  update() {
    const actions = ACTIONS[this.#campaign.status].filter((action) => action !== "retry" || this.#campaign.failedToReach);
    if (this.#shown === actions.join()) return;
    this.#shown = actions.join();
    this.element.replaceChildren(...actions.map((action) => this.#button(action)));
  }

  #button(action) {
    const id = { bulksms_id: this.#campaign.id };
    const call = (path, body) => () => this.#do(() => salesapi(path, body ? post(body) : { method: "POST" }));
    const button = (label, act, kind) => h("button", { type: "button", class: kind, onclick: act }, label);
    switch (action) {
      case "run": return button("Run", call("/run", id), "primary");
      case "pause": return button("Pause", call("/pause", id));
      case "resume": return button("Resume", call("/resume", id), "primary");
      case "retry": return button("Retry failed", call(`/bulksms/${this.#campaign.id}/retry-failed`));
      case "discard": return confirmButton("Discard", "Discard it?", call("/cancel", id));
      case "delete": return confirmButton("Delete", "Delete it for good?", () => this.#do(() => remove(this.#campaign.id)));
      case "cancel": return confirmButton("Cancel", "Cancel it?", call("/cancel", id));
    }
  }

  async #do(request) {
    setText(this.error, "");
    const buttons = this.element.querySelectorAll("button");
    buttons.forEach((button) => (button.disabled = true));
    try {
      this.#changed(await request());
    } catch (problem) {
      setText(this.error, problem.message);
    } finally {
      buttons.forEach((button) => (button.disabled = false));
    }
  }
}

/** Deletes a campaign; returns what `changed` is told. */
async function remove(id) {
  await salesapi(`/bulksms/${id}`, { method: "DELETE" });
  return { bulksms_id: id, deleted: true };
}

/** A link to all contacts as CSV; if the download fails, `error` shows why. */
export function resultsLink(campaign, error) {
  const path = `/bulksms/${campaign.id}/results.csv`;
  const link = h("a", { class: "button", href: salesapiLink(path) }, "Download CSV");
  link.addEventListener("click", async (event) => {
    if (!getKey()) return; // then the browser downloads it as a stream
    event.preventDefault();
    await download(path, `${campaign.id}.csv`).catch((problem) => setText(error, problem.message));
  });
  return link;
}
