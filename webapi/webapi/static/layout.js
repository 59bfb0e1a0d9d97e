// The layout of the system's diagram; the nodes and arrows themselves come from webapi's topology.

export const SIZE = {
  wide: { width: 1120, height: 560, node: [180, 62] },
  narrow: { width: 360, height: 690, node: [140, 56] },
};

/** The position of each node (left, top). */
export const POSITIONS = {
  browsers: { wide: [20, 20], narrow: [24, 10] },
  webapi: { wide: [20, 250], narrow: [24, 130] },
  redis: { wide: [330, 20], narrow: [192, 130] },
  general_worker: { wide: [330, 180], narrow: [192, 250] },
  ds: { wide: [330, 330], narrow: [24, 250] },
  rpc: { wide: [330, 480], narrow: [24, 370] },
  sales_worker: { wide: [660, 20], narrow: [192, 490] },
  salesdb: { wide: [660, 180], narrow: [24, 490] },
  salesapi: { wide: [660, 400], narrow: [192, 370] },
  carrier: { wide: [920, 205], narrow: [192, 620] },
};

/**
 * Arrows with a layout of their own, by `source target`. `narrow`: on a narrow screen the arrow runs along this side of its
 * nodes, or is left out; `at`: the position of its label, 0.5 is the middle.
 */
const ARROWS = {
  "webapi rpc": { narrow: "left" },
  "rpc salesdb": { at: 0.3 },
  "salesapi redis": { narrow: "right", at: 0.52 },
  "redis sales_worker": { narrow: "right" },
  "sales_worker redis": { narrow: "none" },
  "carrier salesapi": { narrow: "right" },
};

/** The layout of an arrow on a `wide` or `narrow` screen: the `side` it runs along, if any, and its label's position. */
export function arrowLayout({ source, target }, form) {
  const { at = 0.5, ...sides } = ARROWS[`${source} ${target}`] ?? {};
  return { at, side: sides[form] };
}
