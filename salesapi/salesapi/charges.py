"""Send outbox entries to ds as jobs, as soon as they are committed."""

from collections.abc import Sequence

import structlog

from bulksms.outbox import Entry
from common.batcher import Batcher
from common.jobs import JobQueue, JobsUnavailableError
from common.observability import tracing
from common.observability.counters import counters
from common.topology import CHARGES, DEDUCT_CREDIT, GENERAL_QUEUE

log = structlog.get_logger()

_PERIOD = 0.025  # seconds between two jobs: credit updates are delayed by this much, but share a job


def charge_batcher(jobs: JobQueue) -> Batcher[Entry]:
    """A batcher for committed entries; entries that it loses are relayed from the outbox."""

    async def send_batch(entries: list[Entry]) -> None:
        await send(jobs, entries)

    return Batcher(send_batch, period=_PERIOD)


async def send(jobs: JobQueue, entries: Sequence[Entry]) -> None:
    """Send entries as one job; if Redis is unavailable, they are relayed later."""
    counters[CHARGES] += len(entries)
    try:
        with tracing.span("send charges", campaigns=(entry.bulksms_id for entry in entries), entries=len(entries)):
            await jobs.send(GENERAL_QUEUE, DEDUCT_CREDIT, [entry.as_job() for entry in entries])
    except JobsUnavailableError as error:
        log.warning("charges not sent, they remain in the outbox", entries=len(entries), reason=str(error))
