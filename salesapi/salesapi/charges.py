"""The fast way of an outbox entry to ds: a job, sent as soon as the step that owes it is committed."""

from collections.abc import Sequence

import structlog

from bulksms.outbox import Entry
from common.batcher import Batcher
from common.jobs import GENERAL_QUEUE, JobQueue, JobsUnavailableError
from common.observability import tracing
from common.observability.counters import counts

log = structlog.get_logger()

_PERIOD = 0.025  # seconds between two jobs: news of credit are that much later, and cost a job each no more


def charge_batcher(jobs: JobQueue) -> Batcher[Entry]:
    """Takes entries that were just committed; those it loses are relayed from the outbox."""

    async def send_some(entries: list[Entry]) -> None:
        await send(jobs, entries)

    return Batcher(send_some, period=_PERIOD)


async def send(jobs: JobQueue, entries: Sequence[Entry]) -> None:
    """Send entries as one job; if Redis is away, leave them to the relay."""
    counts["charges"] += len(entries)
    try:
        with tracing.span("send charges", campaigns=(entry.bulksms_id for entry in entries), entries=len(entries)):
            await jobs.send(GENERAL_QUEUE, "deduct_credit", [entry.as_job() for entry in entries])
    except JobsUnavailableError as error:
        log.warning("charges wait in the outbox", entries=len(entries), reason=str(error))
