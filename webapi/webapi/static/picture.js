// Draws the diagram of the system, and shows the traffic on each arrow.

import { svg } from "./dom.js";
import { rate } from "./format.js";
import { POSITIONS, SIZE, arrowLayout } from "./layout.js";

const PAIR_GAP = 9; // between the two arrows of a pair
const HEAD_LENGTH = 8; // of an arrow

/** The diagram of a topology in an element, for a `wide` or `narrow` screen; `show` updates it. */
export class Picture {
  #form;
  #topology;
  #nodes;
  #arrows;

  constructor(element, form, topology) {
    this.#form = form;
    this.#topology = topology;
    const { width, height } = SIZE[form];
    element.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#arrows = topology.arrows.filter((arrow) => arrowLayout(arrow, form).side !== "none").map((arrow) => this.#arrow(arrow));
    this.#nodes = topology.nodes.map((node) => this.#node(node));
    element.replaceChildren(
      ...this.#arrows.map((drawn) => drawn.group),
      ...this.#nodes.map((drawn) => drawn.group),
      ...this.#arrows.map((drawn) => drawn.label),
    );
  }

  /** `health(node)`: its state and a description; `rates(arrow)`: a number for each kind of its traffic. */
  show(health, rates) {
    for (const { node, group, about } of this.#nodes) {
      const { state, words } = health(node);
      group.dataset.health = state;
      if (about.textContent !== words) about.textContent = words;
    }
    for (const { arrow, group, label, text, plate } of this.#arrows) {
      const now = rates(arrow);
      const most = Math.max(...now);
      group.toggleAttribute("data-active", most > 0);
      label.toggleAttribute("data-active", most > 0);
      if (most > 0) group.style.setProperty("--lap", `${lap(most)}s`);
      const words = now[0] > 0 ? `${arrow.unit} ${rate(now[0])}/s` : arrow.unit;
      if (text.textContent === words) continue;
      text.textContent = words;
      const width = 7 * words.length + 8;
      plate.setAttribute("width", width);
      plate.setAttribute("x", Number(text.getAttribute("x")) - width / 2);
    }
  }

  #box(name) {
    const [x, y] = POSITIONS[name][this.#form];
    const [width, height] = SIZE[this.#form].node;
    return { x, y, width, height, middle: [x + width / 2, y + height / 2] };
  }

  #node(node) {
    const { name, kind, about } = node;
    const { x, y, width, height } = this.#box(name);
    const [server, client] = [kind === "server", kind === "client"];
    const words = svg("text", { class: "about", x: x + 14, y: y + height / 2 + 17 }, about);
    const group = svg("g", { class: server ? "node server" : "node" },
      svg("rect", { x, y, width, height, rx: server ? 26 : 10 }),
      !client && svg("circle", { cx: x + 18, cy: y + height / 2 - 8, r: 4.5 }),
      svg("text", { class: "name", x: x + (client ? 14 : 29), y: y + height / 2 - 3 }, name),
      words);
    return { node, group, about: words };
  }

  #arrow(arrow) {
    const { side, at: share } = arrowLayout(arrow, this.#form);
    const { path, at, angle, end } = side ? this.#around(arrow, side) : this.#straight(arrow, share);
    const [x, y] = at;
    const plate = svg("rect", { class: "plate", y: y - 10, height: 20, rx: 6 });
    const text = svg("text", { x, y: y + 4 });
    const label = this.#form === "wide" ? svg("g", { class: "arrow" }, plate, text) : svg("g", {});
    const group = svg("g", { class: "arrow" },
      svg("path", { class: "line", d: path }),
      svg("path", { class: "moving", d: path }),
      svg("path", { class: "head", d: `M0,0 L-${HEAD_LENGTH},-${HEAD_LENGTH / 1.6} L-${HEAD_LENGTH},${HEAD_LENGTH / 1.6} Z`, transform: `translate(${end}) rotate(${angle})` }));
    return { arrow, group, label, text, plate };
  }

  /** On the line between two centres, from border to border; shifted aside if there is an arrow back. */
  #straight({ source, target }, share) {
    const [a, b] = [this.#box(source), this.#box(target)];
    const [dx, dy] = [b.middle[0] - a.middle[0], b.middle[1] - a.middle[1]];
    const length = Math.hypot(dx, dy);
    const pair = this.#topology.arrows.some((other) => other.source === target && other.target === source);
    const [ox, oy] = pair ? [(-dy / length) * PAIR_GAP, (dx / length) * PAIR_GAP] : [0, 0];
    const start = border(a, dx, dy, ox, oy);
    const end = border(b, -dx, -dy, ox, oy);
    const stop = [end[0] - (dx / length) * HEAD_LENGTH, end[1] - (dy / length) * HEAD_LENGTH];
    const beside = pair ? [ox * 5.5, oy * 1.6] : [0, 0]; // a pair's labels stand on either side of it
    return {
      path: `M${start} L${stop}`,
      end,
      angle: (Math.atan2(dy, dx) * 180) / Math.PI,
      at: [start[0] + (end[0] - start[0]) * share + beside[0], start[1] + (end[1] - start[1]) * share + beside[1]],
    };
  }

  /** Out of one side of a node, around those between, and into the same side of the other. */
  #around({ source, target }, side) {
    const [a, b] = [this.#box(source), this.#box(target)];
    const right = side === "right";
    const x = (box) => box.x + (right ? box.width : 0);
    const down = b.y > a.y;
    const [y1, y2] = [a.middle[1] + (down ? 12 : -12), b.middle[1] - (down ? 12 : -12)];
    const out = (right ? 1 : -1) * (16 + Math.abs(y2 - y1) / 18);
    const end = [x(b), y2];
    const stop = [end[0] + (right ? HEAD_LENGTH : -HEAD_LENGTH), y2];
    return {
      path: `M${x(a)},${y1} C${x(a) + out},${y1} ${x(b) + out},${y2} ${stop}`,
      end,
      angle: right ? 180 : 0,
      at: [x(a) + out, (y1 + y2) / 2],
    };
  }
}

/** The point where a line from a box's centre crosses its border, shifted by (ox, oy). */
function border({ middle, width, height }, dx, dy, ox, oy) {
  const scale = Math.min(width / 2 / Math.abs(dx || 1e-9), height / 2 / Math.abs(dy || 1e-9));
  return [middle[0] + dx * scale + ox, middle[1] + dy * scale + oy];
}

/** Seconds in which a dot moves to the place of the next; in few steps, so that the animation seldom restarts. */
const lap = (most) => [1.6, 1, 0.7, 0.5, 0.35][Math.min(4, Math.floor(Math.log10(1 + most) * 1.2))];
