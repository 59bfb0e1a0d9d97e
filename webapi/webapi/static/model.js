// A campaign as the pages show it, from salesapi's responses and from the WebSocket alike.

export const STATUSES = ["delivered", "sent", "queued", "undelivered", "failed"];

const WINDOW = 3000; // ms over which the rate is measured

/** The actions that are possible in each state. */
export const ACTIONS = {
  created: ["run", "discard", "delete"],
  scheduled: ["run", "cancel"],
  inprogress: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  cancelled: ["retry", "delete"],
  completed: ["retry", "delete"],
};

export const STATE_LABELS = {
  created: "draft, not sent",
  scheduled: "scheduled",
  inprogress: "sending",
  paused: "paused",
  cancelled: "cancelled",
  completed: "completed",
};

const position = (counts) => counts.failed + 2 * counts.sent + 3 * counts.undelivered + 4 * counts.delivered;

export class Campaign {
  #samples = []; // [ms, messages done] of the last seconds
  updated = 0;

  constructor(json) {
    this.update(json);
  }

  /** Takes an update; an older one than the last is ignored: a message's status never goes back. */
  update(json) {
    const counts = typeof json.contacts === "object" ? json.contacts : json;
    if (this.counts && position(counts) < position(this.counts)) return;
    this.id = json.bulksms_id;
    this.name = json.name;
    this.status = json.status;
    this.total = json.accepted ?? json.contacts;
    this.counts = Object.fromEntries(STATUSES.map((status) => [status, counts[status]]));
    this.cost = json.total_cost;
    this.charged = json.charged;
    this.createdAt = json.created_at;
    this.startedAt = json.started_at;
    this.completedAt = json.completed_at;
    this.scheduledFor = json.scheduled_for;
    this.pauseReason = json.pause_reason;
    this.unsent = json.unsent ?? 0;
    this.updated = performance.now();
    this.#samples.push([this.updated, this.done]);
    while (this.#samples.length > 2 && this.#samples[1][0] < this.updated - WINDOW) this.#samples.shift();
  }

  /** Messages done: each counts half when it has left the queue, and fully when its status is final. */
  get done() {
    const { queued, sent } = this.counts;
    return this.total - queued - sent / 2;
  }

  get failedToReach() {
    return this.counts.undelivered + this.counts.failed;
  }

  /** Messages done per second, over the last seconds. */
  get rate() {
    const [since, before] = this.#samples[0];
    const now = Math.max(performance.now(), this.updated + 250);
    if (this.status !== "inprogress" || now - this.updated > WINDOW || this.#samples.length < 2) return 0;
    return Math.max(0, (1000 * (this.done - before)) / (now - since));
  }

  /** The bar as text, for screen readers. */
  get summary() {
    return STATUSES.map((status) => `${status} ${this.counts[status]}`).join(", ");
  }
}
