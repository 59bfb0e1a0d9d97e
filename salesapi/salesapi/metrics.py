"""How salesapi and its worker count: what a flush was, and how the state that all processes share stands."""

from collections.abc import Callable
from datetime import UTC, datetime

from bulksms import totals
from bulksms.report_writer import Flush
from common.database import Database
from common.jobs import GENERAL_QUEUE, SALES_QUEUE, JobQueue
from common.observability import tracing
from common.observability.metrics import CallbackMetrics, HttpMetrics, Refresh, StateMetrics

_PATH = "/callback"


def on_flush(http: HttpMetrics, callbacks: CallbackMetrics) -> Callable[[Flush], None]:
    """Counts a flush, and the requests that it has answered."""

    answered = http.counter("POST", _PATH, 200)

    def count(flush: Flush) -> None:
        callbacks.flush_reports.observe(len(flush.steps))
        callbacks.flush_seconds.observe(flush.seconds)
        if not flush.committed:
            callbacks.failed.inc(len(flush.steps))
            return
        answered.inc(flush.calls)
        callbacks.applied.inc(len(flush.steps) - flush.stale - flush.unknown)
        if flush.stale or flush.unknown:
            callbacks.stale.inc(flush.stale)
            callbacks.unknown.inc(flush.unknown)
        campaigns = (report.bulksms_id for report in flush.steps)
        with tracing.span("commit reports", campaigns=campaigns, seconds=flush.seconds, reports=len(flush.steps)):
            pass  # it is over: the span is only told
        if flush.steps and (reported_at := flush.steps[0].reported_at):
            late = (datetime.now(UTC) - reported_at).total_seconds()
            callbacks.lag.observe(max(0.0, late))  # the carrier's clock may be ahead of ours

    return count


def on_problem(http: HttpMetrics) -> Callable[[int], None]:
    """Counts a callback that was answered with a problem."""
    return lambda status: http.counter("POST", _PATH, status).inc()


def state_reader(salesdb: Database, jobs: JobQueue, state: StateMetrics) -> list[Refresh]:
    """What reads the shared state: each by itself, so that one part that is away hides nothing of the other."""

    async def queues() -> None:
        for queue in (GENERAL_QUEUE, SALES_QUEUE):
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
