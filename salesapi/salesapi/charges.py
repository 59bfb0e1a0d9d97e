"""The fast way of an outbox entry to ds: a job, sent as soon as the step that owes it is committed."""

import asyncio
from collections.abc import Sequence

import structlog

from bulksms.outbox import Entry
from common.jobs import GENERAL_QUEUE, JobQueue, JobsUnavailableError

log = structlog.get_logger()

_MOST = 1_000  # entries in one job
_GATHER = 0.04  # seconds between two jobs: news of credit are that much later, and cost a job each no more


class Charges:
    """Sends entries at once, and what gathers in the next moment as one job.

    What is lost here (Redis is away, the process ends) is still in the outbox, and is relayed from there.
    """

    def __init__(self, jobs: JobQueue) -> None:
        self._jobs = jobs
        self._entries: list[Entry] = []
        self._wake = asyncio.Event()

    def add(self, entries: Sequence[Entry]) -> None:
        """Send these soon."""
        self._entries += entries
        self._wake.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._entries:
                taken, self._entries = self._entries[:_MOST], self._entries[_MOST:]
                await send(self._jobs, taken)
            await asyncio.sleep(_GATHER)


async def send(jobs: JobQueue, entries: Sequence[Entry]) -> None:
    """Send entries as one job; if Redis is away, leave them to the relay."""
    try:
        await jobs.send(GENERAL_QUEUE, "deduct_credit", [entry.as_job() for entry in entries])
    except JobsUnavailableError as error:
        log.warning("charges wait in the outbox", entries=len(entries), reason=str(error))
