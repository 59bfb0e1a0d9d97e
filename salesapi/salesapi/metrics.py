"""The metrics of salesapi and its worker: callbacks by flush, the worker's schedule, and the state that all share."""

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
    """The callback writer, a flush at a time: counting each report would cost what group commit has saved."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        reports = Counter(
            "bulksms_reports_total",
            "Delivery reports by what became of them: applied, stale (nothing new), unknown, failed (not committed).",
            ["outcome"],
            registry=metrics,
        )
        self.applied, self.stale, self.unknown, self.failed = (
            reports.labels(outcome) for outcome in ("applied", "stale", "unknown", "failed")
        )
        self.flush_reports = Histogram(
            "bulksms_flush_reports",
            "Reports that shared one commit: the load sets it, up to CALLBACK_FLUSH.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000),
            registry=metrics,
        )
        self.flush_seconds = Histogram(
            "bulksms_flush_seconds", "One flush: its UPDATE and its commit.", buckets=LATENCY_BUCKETS, registry=metrics
        )
        self.lag = Histogram(
            "bulksms_callback_lag_seconds",
            "From the carrier's timestamp of the first report in a flush (the one that waited longest) to its commit.",
            buckets=(*LATENCY_BUCKETS, 30.0, 60.0, 300.0, 3600.0),
            registry=metrics,
        )
        self.waiting = Gauge(
            "bulksms_reports_waiting",
            "Reports taken and not yet committed; at CALLBACK_BUFFER the answer is 503.",
            registry=metrics,
        )


class StateMetrics:
    """What all processes share, as salesdb and Redis have it. Every sales worker shows the same: take the max."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.jobs = Gauge("bulksms_jobs_waiting", "Jobs that are due and not begun.", ["queue"], registry=metrics)
        self.oldest_job = Gauge(
            "bulksms_jobs_oldest_seconds", "How long the first of them has waited.", ["queue"], registry=metrics
        )
        self.outbox_entries = Gauge(
            "bulksms_outbox_entries", "Charges and releases that ds has not settled.", registry=metrics
        )
        self.outbox_credits = Gauge("bulksms_outbox_credits", "Their amount.", registry=metrics)
        self.outbox_oldest = Gauge(
            "bulksms_outbox_oldest_seconds", "How long the oldest of them has waited.", registry=metrics
        )
        self.campaigns = Gauge("bulksms_campaigns", "Campaigns by status.", ["status"], registry=metrics)
        self.messages = Gauge(
            "bulksms_messages",
            "Messages by status, from their campaigns' counters.",
            ["status"],
            registry=metrics,
        )


class SendingMetrics:
    """What the sales worker does on its schedule."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.relayed = Counter(
            "bulksms_outbox_relayed_total",
            "Outbox entries sent again because ds had not settled them in time.",
            registry=metrics,
        )
        self.expired = Counter(
            "bulksms_messages_expired_total",
            "Messages made undelivered since no report came within their validity.",
            registry=metrics,
        )


def on_flush(http: HttpMetrics, callbacks: CallbackMetrics) -> Callable[[Flush], None]:
    """Counts a flush, and the requests that it has answered."""

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
            pass  # it is over: the span only reports it
        if flush.reports and (reported_at := flush.reports[0].reported_at):
            late = (datetime.now(UTC) - reported_at).total_seconds()
            callbacks.lag.observe(max(0.0, late))  # the carrier's clock may be ahead of ours

    return count


def on_problem(http: HttpMetrics) -> Callable[[int], None]:
    """Counts a callback that was answered with a problem."""
    return lambda status: http.counter("POST", _PATH, status).inc()


def state_reader(salesdb: Database, jobs: JobQueue, state: StateMetrics) -> list[Refresh]:
    """What reads the shared state: each by itself, so that one part that is away hides nothing of the other."""

    async def queues() -> None:
        for queue in QUEUES:
            waiting = await jobs.waiting(queue)
            state.jobs.labels(queue).set(waiting.jobs)
            state.oldest_job.labels(queue).set(waiting.oldest)

    async def database() -> None:
        now = await totals.read(salesdb)
        for campaign_status, campaigns in now.campaigns.items():
            state.campaigns.labels(campaign_status).set(campaigns)
        for status, messages in now.messages.items():
            state.messages.labels(status).set(messages)
        state.outbox_entries.set(now.unsettled)
        state.outbox_credits.set(float(now.unsettled_credits))
        state.outbox_oldest.set(now.oldest_unsettled)

    return [queues, database]
