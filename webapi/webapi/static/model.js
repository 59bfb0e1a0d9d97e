// A campaign as the pages know it: the same from salesapi's answers and from the news.

export const STATUSES = ["delivered", "sent", "queued", "undelivered", "failed"];

const WINDOW = 3000; // ms over which messages a second are counted

/** Which of the actions a campaign in this state can take. */
export const ACTIONS = {
  created: ["run", "discard"],
  scheduled: ["run", "cancel"],
  inprogress: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  cancelled: ["retry"],
  completed: ["retry"],
};

export const WORDS = {
  created: "draft, not sent",
  scheduled: "scheduled",
  inprogress: "sending",
  paused: "paused",
  cancelled: "cancelled",
  completed: "completed",
};

const reached = (counts) => counts.failed + 2 * counts.sent + 3 * counts.undelivered + 4 * counts.delivered;

export class Campaign {
  #steps = []; // [ms, messages done] of the last seconds
  updated = 0;

  constructor(json) {
    this.update(json);
  }

  /** Takes what was told; what is older than what is known is ignored: a message's status never goes back. */
  update(json) {
    const counts = typeof json.contacts === "object" ? json.contacts : json;
    if (this.counts && reached(counts) < reached(this.counts)) return;
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
    this.#steps.push([this.updated, this.done]);
    while (this.#steps.length > 2 && this.#steps[1][0] < this.updated - WINDOW) this.#steps.shift();
  }

  /** Messages done: half of it is to leave the queue, half to have a final status. */
  get done() {
    const { queued, sent } = this.counts;
    return this.total - queued - sent / 2;
  }

  get failedToReach() {
    return this.counts.undelivered + this.counts.failed;
  }

  /** Messages done a second, over the last seconds. */
  get rate() {
    const [since, before] = this.#steps[0];
    const now = Math.max(performance.now(), this.updated + 250);
    if (this.status !== "inprogress" || now - this.updated > WINDOW || this.#steps.length < 2) return 0;
    return Math.max(0, (1000 * (this.done - before)) / (now - since));
  }

  /** One line for whoever does not see the bar. */
  get summary() {
    return STATUSES.map((status) => `${status} ${this.counts[status]}`).join(", ");
  }
}
