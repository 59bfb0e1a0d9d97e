// What can be done with a campaign: its buttons, and the line below them that says why something was not done.

import { download, getKey, post, salesapi, salesapiLink } from "./api.js";
import { h, say, twice } from "./dom.js";
import { ACTIONS } from "./model.js";

export class Actions {
  element = h("div", { class: "actions" });
  error = h("p", { class: "field-error", role: "alert" });
  #campaign;
  #changed;
  #shown = "";

  /** `changed` is given what salesapi answers: a campaign as it is now, or a new one. */
  constructor(campaign, changed) {
    this.#campaign = campaign;
    this.#changed = changed;
    this.update();
  }

  update() {
    const actions = ACTIONS[this.#campaign.status].filter((one) => one !== "retry" || this.#campaign.failedToReach);
    if (this.#shown === actions.join()) return;
    this.#shown = actions.join();
    this.element.replaceChildren(...actions.map((action) => this.#button(action)));
  }

  #button(action) {
    const id = { bulksms_id: this.#campaign.id };
    const ask = (path, body) => () => this.#do(() => salesapi(path, body ? post(body) : { method: "POST" }));
    const plain = (label, act, kind) => h("button", { type: "button", class: kind, onclick: act }, label);
    switch (action) {
      case "run": return plain("Run", ask("/run", id), "primary");
      case "pause": return plain("Pause", ask("/pause", id));
      case "resume": return plain("Resume", ask("/resume", id), "primary");
      case "retry": return plain("Retry failed", ask(`/bulksms/${this.#campaign.id}/retry-failed`));
      case "discard": return twice("Discard", "Discard it?", ask("/cancel", id));
      case "cancel": return twice("Cancel", "Cancel it?", ask("/cancel", id));
    }
  }

  async #do(ask) {
    say(this.error, "");
    const buttons = this.element.querySelectorAll("button");
    buttons.forEach((button) => (button.disabled = true));
    try {
      this.#changed(await ask());
    } catch (problem) {
      say(this.error, problem.message);
    } finally {
      buttons.forEach((button) => (button.disabled = false));
    }
  }
}

/** A link to every contact as CSV; should that fail, `error` says why. */
export function resultsLink(campaign, error) {
  const path = `/bulksms/${campaign.id}/results.csv`;
  const link = h("a", { class: "button", href: salesapiLink(path) }, "Download CSV");
  link.addEventListener("click", async (event) => {
    if (!getKey()) return; // the browser saves it as it comes in
    event.preventDefault();
    await download(path, `${campaign.id}.csv`).catch((problem) => say(error, problem.message));
  });
  return link;
}
