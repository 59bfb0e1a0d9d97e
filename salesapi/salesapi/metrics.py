"""Metrics of salesapi and its worker: callbacks by flush, the worker's schedule, and the shared state."""

from collections.abc import Callable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from bulksms import totals
from bulksms.report_writer import Flush
from common.database import Database
from common.jobs import JobQueue
from common.observability import tracing
from common.observability.metrics import LATENCY_BUCKETS, HttpMetrics, Refresh
from common.topology import QUEUES

_PATH = "/callback"


class CallbackMetrics:
    """Metrics of the report writer, updated once per flush: counting each report would cost what group commit saves."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        reports = Counter(
            "bulksms_reports_total",
            "Delivery reports by outcome: applied, stale (no greater status), unknown, failed (not committed).",
            ["outcome"],
            registry=metrics,
        )
        self.applied, self.stale, self.unknown, self.failed = (
            reports.labels(outcome) for outcome in ("applied", "stale", "unknown", "failed")
        )
        self.flush_reports = Histogram(
            "bulksms_flush_reports",
            "Reports per commit; grows with the load, up to CALLBACK_FLUSH.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000),
            registry=metrics,
        )
        self.flush_seconds = Histogram(
            "bulksms_flush_seconds",
            "Duration of a flush: UPDATE and commit.",
            buckets=LATENCY_BUCKETS,
            registry=metrics,
        )
        self.lag = Histogram(
            "bulksms_callback_lag_seconds",
            "From the carrier's timestamp of the first report in a flush (the oldest) to its commit.",
            buckets=(*LATENCY_BUCKETS, 30.0, 60.0, 300.0, 3600.0),
            registry=metrics,
        )
        self.waiting = Gauge(
            "bulksms_reports_waiting",
            "Reports received and not yet committed; at CALLBACK_BUFFER the response is 503.",
            registry=metrics,
        )


class StateMetrics:
    """Shared state from salesdb and Redis; every sales worker exports the same values, so aggregate with max."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.jobs = Gauge("bulksms_jobs_waiting", "Jobs that are due and not started.", ["queue"], registry=metrics)
        self.oldest_job = Gauge(
            "bulksms_jobs_oldest_seconds", "Age of the oldest waiting job.", ["queue"], registry=metrics
        )
        self.outbox_entries = Gauge(
            "bulksms_outbox_entries", "Charges and releases that ds has not settled.", registry=metrics
        )
        self.outbox_credits = Gauge(
            "bulksms_outbox_credits", "Credits of the unsettled outbox entries.", registry=metrics
        )
        self.outbox_oldest = Gauge(
            "bulksms_outbox_oldest_seconds", "Age of the oldest unsettled outbox entry.", registry=metrics
        )
        self.campaigns = Gauge("bulksms_campaigns", "Campaigns by status.", ["status"], registry=metrics)
        self.messages = Gauge(
            "bulksms_messages",
            "Messages by status, from their campaigns' counters.",
            ["status"],
            registry=metrics,
        )


class SendingMetrics:
    """Metrics of the sales worker's schedule."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.relayed = Counter(
            "bulksms_outbox_relayed_total",
            "Outbox entries sent again because ds had not settled them in time.",
            registry=metrics,
        )
        self.expired = Counter(
            "bulksms_messages_expired_total",
            "Messages marked undelivered because no final report arrived within their validity.",
            registry=metrics,
        )


def on_flush(http: HttpMetrics, callbacks: CallbackMetrics) -> Callable[[Flush], None]:
    """An observer that counts flushes and the callbacks they answer."""

    answered = http.counter("POST", _PATH, 200)

    def count(flush: Flush) -> None:
        callbacks.flush_reports.observe(len(flush.reports))
        callbacks.flush_seconds.observe(flush.seconds)
        if not flush.committed:
            callbacks.failed.inc(len(flush.reports))
            return
        answered.inc(flush.calls)
        callbacks.applied.inc(len(flush.reports) - flush.stale - flush.unknown)
        if flush.stale or flush.unknown:
            callbacks.stale.inc(flush.stale)
            callbacks.unknown.inc(flush.unknown)
        campaigns = (report.bulksms_id for report in flush.reports)
        with tracing.span("commit reports", campaigns=campaigns, seconds=flush.seconds, reports=len(flush.reports)):
            pass  # the flush has ended: the span only records it
        if flush.reports and (reported_at := flush.reports[0].reported_at):
            late = (datetime.now(UTC) - reported_at).total_seconds()
            callbacks.lag.observe(max(0.0, late))  # the carrier's clock may be ahead of ours

    return count


def on_problem(http: HttpMetrics) -> Callable[[int], None]:
    """An observer that counts callbacks answered with a problem."""
    return lambda status: http.counter("POST", _PATH, status).inc()


def state_reader(salesdb: Database, jobs: JobQueue, state: StateMetrics) -> list[Refresh]:
    """Readers of the shared state, one per dependency, so that each works while the other is unavailable."""

    async def queues() -> None:
        for queue in QUEUES:
            waiting = await jobs.waiting(queue)
            state.jobs.labels(queue).set(waiting.jobs)
            state.oldest_job.labels(queue).set(waiting.oldest)

    async def database() -> None:
        current = await totals.read(salesdb)
        for campaign_status, campaigns in current.campaigns.items():
            state.campaigns.labels(campaign_status).set(campaigns)
        for status, messages in current.messages.items():
            state.messages.labels(status).set(messages)
        state.outbox_entries.set(current.unsettled)
        state.outbox_credits.set(float(current.unsettled_credits))
        state.outbox_oldest.set(current.oldest_unsettled)

    return [queues, database]
