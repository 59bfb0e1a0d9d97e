// Elements in a line each: h("button", { class: "primary", onclick: run }, "Run").

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

/** Puts text into an element only if it is other than what stands there: nothing blinks, no reader repeats it. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A button that does what it says at the second press: for what cannot be undone. */
export function twice(label, sure, act) {
  const button = h("button", { type: "button", class: "danger" }, label);
  let timer;
  const calm = () => {
    clearTimeout(timer);
    button.classList.remove("sure");
    say(button, label);
  };
  button.addEventListener("click", () => {
    if (button.classList.contains("sure")) {
      calm();
      act();
      return;
    }
    button.classList.add("sure");
    say(button, sure);
    timer = setTimeout(calm, 4000);
  });
  button.addEventListener("blur", calm);
  return button;
}
