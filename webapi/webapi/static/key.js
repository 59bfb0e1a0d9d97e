// The dialog that asks for an API key.

import { events, getKey, setKey } from "./api.js";
import { $, h, setText } from "./dom.js";

/** Sets up the button and the dialog; `changed` is called when another key is set. */
export function setUpKey(changed) {
  const dialog = $("ask-key");
  const reason = h("p", { class: "quiet" });
  const input = h("input", { id: "key-input", type: "password", autocomplete: "off", spellcheck: "false" });
  const form = h(
    "form",
    { class: "stack", onsubmit: save },
    reason,
    h("div", { class: "field" }, h("label", { for: "key-input" }, "API key"), input),
    h("div", { class: "actions end" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Close"),
      h("button", { class: "primary" }, "Use this key")),
  );
  dialog.append(h("h2", { id: "ask-key-title" }, "API key"), form);
  $("key").addEventListener("click", () => open("The key is kept in this tab only. Leave it empty if the server needs none."));
  events.addEventListener("needs-key", () =>
    dialog.open || open(getKey() ? "The server does not accept this key." : "The server needs an API key: ask its operator for the key of your workspace."));

  function open(text) {
    setText(reason, text);
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
