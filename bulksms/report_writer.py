"""The callback writer: concurrent callbacks share one batched UPDATE (group commit).

Callers hand in their reports and are told. While one flush is on its way to the disk the next one gathers, so a flush
is as large as the load makes it: a single report is written at once, a flood in few large statements.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple
from uuid import UUID

import structlog

from bulksms.outbox import Entry
from bulksms.reports import DeliveryReport, apply
from common.database import Database

log = structlog.get_logger()


class Outcome(NamedTuple):
    """What became of one caller's reports: each moved its row, was no news, or names no message of ours."""

    applied: int
    stale: int
    unknown: int


class BufferFullError(Exception):
    """More reports are waiting than the buffer holds: try again later."""


# Told what became of a call's reports, once: an error means that none of them is known to be written.
Done = Callable[[Outcome | Exception], None]


class Flush(NamedTuple):
    """One flush, for whoever counts them: the calls that shared it, their reports, and what became of those."""

    calls: int
    steps: Sequence[DeliveryReport]
    stale: int
    unknown: int
    committed: bool
    seconds: float


class _Call(NamedTuple):
    steps: Sequence[DeliveryReport]
    done: Done


class ReportWriter:
    """Gathers reports and commits them in flushes.

    `buffer`: reports that may wait; `flush`: the most in one statement; `flushes`: statements under way at once;
    `on_entries`: told what each committed flush owes to ds; `on_moved`: told the campaigns that it may have moved;
    `on_flush`: told of each flush, committed or not.
    """

    def __init__(
        self,
        database: Database,
        *,
        buffer: int,
        flush: int,
        flushes: int = 2,
        on_entries: Callable[[Sequence[Entry]], None],
        on_moved: Callable[[Sequence[UUID]], None] = lambda campaigns: None,
        on_flush: Callable[[Flush], None] = lambda flush: None,
    ) -> None:
        self._database = database
        self._buffer = buffer
        self._flush_size = flush
        self._flushes = flushes
        self._on_entries = on_entries
        self._on_moved = on_moved
        self._on_flush = on_flush
        self._calls: list[_Call] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    @property
    def waiting(self) -> int:
        """Reports that were taken and are not yet committed."""
        return self._waiting

    def start(self) -> None:
        """Start to flush."""
        self._tasks = [asyncio.create_task(self._run()) for _ in range(self._flushes)]

    def submit(self, steps: Sequence[DeliveryReport], done: Done) -> None:
        """Tell `done` once all the reports are committed, or could not be.

        Raises BufferFullError, with nothing taken. After an error of the database nothing is known to be written: the
        caller sends the reports again, which is harmless.
        """
        if self._waiting + len(steps) > self._buffer or self._closing:
            raise BufferFullError
        self._calls.append(_Call(steps, done))
        self._waiting += len(steps)
        self._wake.set()

    async def write(self, steps: Sequence[DeliveryReport]) -> Outcome:
        """Return once all the reports are committed; raises what `submit` raises or tells."""
        written: asyncio.Future[Outcome | Exception] = asyncio.get_running_loop().create_future()
        self.submit(steps, lambda result: None if written.done() else written.set_result(result))
        result = await written
        if isinstance(result, Exception):
            raise result
        return result

    async def close(self) -> None:
        """Take no more, write what waits, and end."""
        self._closing = True
        self._wake.set()
        await asyncio.gather(*self._tasks)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            calls = self._take()
            if calls:
                await self._write(calls)
            elif self._closing:
                return
            else:
                self._wake.clear()

    def _take(self) -> list[_Call]:
        """The oldest calls, as many as fit in one flush, and at least one."""
        size = count = 0
        for call in self._calls:
            if count and size + len(call.steps) > self._flush_size:
                break
            size += len(call.steps)
            count += 1
        taken = self._calls[:count]
        del self._calls[:count]
        return taken

    async def _write(self, calls: list[_Call]) -> None:
        steps = [step for call in calls for step in call.steps]
        begun = perf_counter()
        try:
            applied = await apply(self._database, steps)
        except Exception as error:
            for call in calls:
                _tell(call, error)
            self._on_flush(Flush(len(calls), steps, 0, 0, False, perf_counter() - begun))
            return
        finally:
            self._waiting -= len(steps)
        for call, outcome in zip(calls, _share(calls, set(applied.stale), set(applied.unknown)), strict=True):
            _tell(call, outcome)
        if applied.entries:
            self._on_entries(applied.entries)
        if len(applied.stale) + len(applied.unknown) < len(steps):
            self._on_moved(list({step.bulksms_id for step in steps}))
        self._on_flush(Flush(len(calls), steps, len(applied.stale), len(applied.unknown), True, perf_counter() - begun))


def _tell(call: _Call, result: Outcome | Exception) -> None:
    """Tell a caller; whatever is wrong with it does not stop the flushes."""
    try:
        call.done(result)
    except Exception as error:
        log.error("a caller could not be told", exc_info=error)


def _share(calls: Sequence[_Call], stale: set[int], unknown: set[int]) -> list[Outcome]:
    """Each call's part of what the flush did."""
    if not stale and not unknown:
        return [Outcome(len(call.steps), 0, 0) for call in calls]
    outcomes: list[Outcome] = []
    start = 0
    for call in calls:
        span = range(start, start + len(call.steps))
        old = sum(position in stale for position in span)
        lost = sum(position in unknown for position in span)
        outcomes.append(Outcome(len(span) - old - lost, old, lost))
        start += len(span)
    return outcomes
