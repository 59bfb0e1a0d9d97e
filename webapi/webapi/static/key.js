// The dialog that asks for an API key.

import { events, getKey, setKey } from "./api.js";
import { $, h, say } from "./dom.js";

/** Sets up the button and the dialog; `changed` is called when another key is set. */
export function setUpKey(changed) {
  const dialog = $("ask-key");
  const why = h("p", { class: "quiet" });
  const input = h("input", { id: "key-input", type: "password", autocomplete: "off", spellcheck: "false" });
  const form = h(
    "form",
    { class: "stack", onsubmit: save },
    why,
    h("div", { class: "field" }, h("label", { for: "key-input" }, "API key"), input),
    h("div", { class: "actions end" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
      h("button", { class: "primary" }, "Use this key")),
  );
  dialog.append(h("h2", { id: "ask-key-title" }, "API key"), form);
  $("key").addEventListener("click", () => open("It is kept in this tab only. Leave it empty where the server needs none."));
  events.addEventListener("needs-key", () =>
    dialog.open || open(getKey() ? "This server does not take the key that you gave." : "This server needs a key: ask whoever runs it for your workspace's."));

  function open(reason) {
    say(why, reason);
    input.value = getKey();
    dialog.showModal();
  }

  function save(event) {
    event.preventDefault();
    setKey(input.value.trim());
    dialog.close();
    changed();
  }
}
