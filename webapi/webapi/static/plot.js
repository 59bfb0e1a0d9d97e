// The two plots: the credit as a line, and the statuses of a campaign over time as areas.

import { svg } from "./dom.js";

const STACK = ["delivered", "undelivered", "failed", "sent"]; // from bottom to top

/** A line through [time, value] pairs, with its area. */
export function sparkline(element, points) {
  const [width, height, edge] = [600, 72, 4];
  element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const times = points.map(([time]) => time);
  const values = points.map(([, value]) => value);
  const [first, last] = [times[0], times.at(-1)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = (time) => (last > first ? (width * (time - first)) / (last - first) : width);
  const y = (value) => (high > low ? height - edge - ((height - 2 * edge) * (value - low)) / (high - low) : height / 2);
  const line = `M0,${y(values[0])} ` + points.map(([time, value]) => `L${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  element.replaceChildren(
    svg("path", { class: "under", d: `${line} V${height} H0 Z` }),
    svg("path", { d: line }),
  );
}

/** Stacked areas through moments {at, delivered, ...}; `liveFrom`: where the live part starts. */
export function timeline(element, moments, total, liveFrom) {
  const [width, height] = [1000, 220];
  element.setAttribute("viewBox", `0 0 ${width} ${height}`);
  element.setAttribute("preserveAspectRatio", "none");
  const first = moments[0].at;
  const span = Math.max(moments.at(-1).at - first, 1);
  const x = (at) => ((width * (at - first)) / span).toFixed(1);
  const y = (n) => (height - (height * n) / Math.max(total, 1)).toFixed(1);
  const base = moments.map(() => 0);
  const areas = STACK.map((status) => {
    const lower = moments.map((moment, i) => `${x(moment.at)},${y(base[i])}`);
    moments.forEach((moment, i) => (base[i] += moment[status]));
    const upper = moments.map((moment, i) => `${x(moment.at)},${y(base[i])}`);
    return svg("polygon", { class: "area", "data-status": status, points: [...upper, ...lower.reverse()].join(" ") });
  });
  const mark = liveFrom > first && liveFrom < first + span;
  element.replaceChildren(
    svg("rect", { class: "frame", width, height }),
    ...areas,
    ...(mark ? [svg("line", { class: "live", x1: x(liveFrom), x2: x(liveFrom), y2: height })] : []),
  );
}
