// Where the parts of the system stand in the picture, and what flows between them.

export const SIZE = {
  wide: { width: 1120, height: 560, node: [180, 62] },
  narrow: { width: 360, height: 690, node: [140, 56] },
};

/** Each part: what it is, and where it stands (left, top). A server is told of by the services that need it. */
export const NODES = {
  browsers: { about: "dashboards", wide: [20, 20], narrow: [24, 10] },
  webapi: { about: "node 1", wide: [20, 250], narrow: [24, 130] },
  redis: { about: "jobs, pub/sub", server: true, wide: [330, 20], narrow: [192, 130] },
  general_worker: { about: "credit", wide: [330, 180], narrow: [192, 250] },
  ds: { about: "PostgreSQL", server: true, wide: [330, 330], narrow: [24, 250] },
  rpc: { about: "node 3", wide: [330, 480], narrow: [24, 370] },
  sales_worker: { about: "sending", wide: [660, 20], narrow: [192, 490] },
  salesdb: { about: "PostgreSQL", server: true, wide: [660, 180], narrow: [24, 490] },
  salesapi: { about: "node 2", wide: [660, 400], narrow: [192, 370] },
  carrier: { about: "simulated", wide: [920, 205], narrow: [192, 620] },
};

const jobs = (...names) => names.map((name) => `job ${name}`);

/**
 * The arrows. Each flow: what it is, and the counts of the service `of` that make it up; the first is the arrow's label,
 * in `unit`. `narrow`: on a narrow screen the arrow runs along this side of its nodes, or is left out; `at`: where its label stands.
 */
export const EDGES = [
  edge("webapi", "browsers", "webapi", "messages", [["WebSocket messages", ["frames"]]]),
  edge("redis", "webapi", "webapi", "news", [["pub/sub: credit and campaigns", ["heard workspace_credit", "heard campaign_progress"]]]),
  edge("webapi", "ds", "webapi", "queries", [["queries", ["ds"]]]),
  edge("webapi", "rpc", "webapi", "calls", [["gRPC calls", ["grpc"]]], { narrow: "left" }),
  edge("redis", "general_worker", "general_worker", "jobs", [["jobs: charges, top-ups", ["jobs"]]]),
  edge("general_worker", "redis", "general_worker", "news", [
    ["pub/sub: credit", ["news workspace_credit"]],
    ["jobs: settled", jobs("settle_outbox")],
  ]),
  edge("general_worker", "ds", "general_worker", "charges", [["charges settled", ["settled"]], ["transactions", ["ds"]]]),
  edge("rpc", "ds", "rpc", "queries", [["queries", ["ds"]]]),
  edge("rpc", "salesdb", "rpc", "queries", [["queries", ["salesdb"]]], { at: 0.3 }),
  edge("salesapi", "rpc", "salesapi", "calls", [["gRPC calls", ["grpc"]]]),
  edge("salesapi", "redis", "salesapi", "jobs", [
    ["jobs: charges, sending", jobs("deduct_credit", "send_campaign")],
    ["charges in them", ["charges"]],
    ["pub/sub: campaigns", ["news campaign_progress"]],
  ], { narrow: "right", at: 0.52 }),
  edge("salesapi", "salesdb", "salesapi", "commits", [["commits and queries", ["salesdb"]]]),
  edge("redis", "sales_worker", "sales_worker", "jobs", [["jobs: sending, schedule", ["jobs"]]], { narrow: "right" }),
  edge("sales_worker", "redis", "sales_worker", "jobs", [["jobs: relayed, sending", jobs("deduct_credit", "send_campaign")]], { narrow: "none" }),
  edge("sales_worker", "salesdb", "sales_worker", "queries", [["commits and queries", ["salesdb"]]]),
  edge("sales_worker", "carrier", "sales_worker", "messages", [["messages", ["messages"]], ["batches", ["batches"]]]),
  edge("carrier", "salesapi", "salesapi", "reports", [["delivery reports", ["reports"]], ["callbacks", ["callbacks"]]], { narrow: "right" }),
];

function edge(from, to, of, unit, flows, { narrow, at = 0.5 } = {}) {
  return { from, to, of, unit, flows: flows.map(([what, counts]) => ({ what, counts })), side: { narrow }, at };
}
