// Makes elements, such as h("button", { class: "primary", onclick: run }, "Run").

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

/** Sets an element's text only if it differs: nothing flickers, and screen readers do not repeat it. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A button that asks for a second press: for what cannot be undone. */
export function confirmButton(label, question, act) {
  const button = h("button", { type: "button", class: "danger" }, label);
  let timer;
  const reset = () => {
    clearTimeout(timer);
    button.classList.remove("confirming");
    setText(button, label);
  };
  button.addEventListener("click", () => {
    if (button.classList.contains("confirming")) {
      reset();
      act();
      return;
    }
    button.classList.add("confirming");
    setText(button, question);
    timer = setTimeout(reset, 4000);
  });
  button.addEventListener("blur", reset);
  return button;
}
