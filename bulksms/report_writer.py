"""The callback writer: concurrent callbacks share one batched UPDATE (group commit).

Callers hand in their reports and are told. While one flush is on its way to the disk the next one gathers, so a flush
is as large as the load makes it: a single report is written at once, a flood in few large statements.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple, TypeVar
from uuid import UUID

import structlog

from bulksms.outbox import Entry
from bulksms.reports import Applied, Step, apply
from common.database import Database
from common.observability.counters import count_failure

log = structlog.get_logger()

T = TypeVar("T")


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
    steps: Sequence[Step]
    stale: int
    unknown: int
    committed: bool
    seconds: float


class _Call(NamedTuple):
    steps: Sequence[Step]
    done: Done


class ReportWriter:
    """Gathers reports and commits them in flushes; each task that runs `run` makes one flush at a time.

    `buffer`: reports that may wait; `flush`: the most in one statement. The observers are told after a flush: a fault
    of theirs is logged and counted, and stops nothing.
    `on_entries`: what each committed flush owes to ds; `on_moved`: the campaigns that it may have moved; `on_flush`:
    each flush, committed or not.
    """

    def __init__(
        self,
        database: Database,
        *,
        buffer: int,
        flush: int,
        on_entries: Callable[[Sequence[Entry]], None],
        on_moved: Callable[[Sequence[UUID]], None] = lambda campaigns: None,
        on_flush: Callable[[Flush], None] = lambda flush: None,
    ) -> None:
        self._database = database
        self._buffer = buffer
        self._flush_size = flush
        self._on_entries = on_entries
        self._on_moved = on_moved
        self._on_flush = on_flush
        self._calls: list[_Call] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        self._is_closing = False
        self._drained = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Reports that were taken and are not yet committed."""
        return self._waiting

    def submit(self, steps: Sequence[Step], done: Done) -> None:
        """Tell `done` once all the reports are committed, or could not be.

        Raises BufferFullError, with nothing taken. After an error of the database nothing is known to be written: the
        caller sends the reports again, which is harmless.
        """
        if self._waiting + len(steps) > self._buffer or self._is_closing:
            raise BufferFullError
        self._calls.append(_Call(steps, done))
        self._waiting += len(steps)
        self._wake.set()

    async def write(self, steps: Sequence[Step]) -> Outcome:
        """Return once all the reports are committed; raises what `submit` raises or tells."""
        written: asyncio.Future[Outcome | Exception] = asyncio.get_running_loop().create_future()
        self.submit(steps, lambda result: None if written.done() else written.set_result(result))
        result = await written
        if isinstance(result, Exception):
            raise result
        return result

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._wake.wait()
            if calls := self._take():
                await self._write(calls)
            else:
                self._wake.clear()

    async def close(self) -> None:
        """Take no more, and return when what waits is written."""
        self._is_closing = True
        if self._waiting:
            await self._drained.wait()

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
        """Commit the reports of these calls in one flush, and tell each call: none is ever left waiting."""
        steps = [step for call in calls for step in call.steps]
        begun = perf_counter()
        applied: Applied | None = None
        results: Sequence[Outcome | Exception] = [_InterruptedError()] * len(calls)
        try:
            applied = await apply(self._database, steps)
            results = _share(calls, set(applied.stale), set(applied.unknown))
        except Exception as error:
            results = [error] * len(calls)
        finally:
            self._waiting -= len(steps)
            for call, result in zip(calls, results, strict=True):
                _guarded("caller", call.done, result)
            if self._is_closing and not self._waiting:
                self._drained.set()
        self._observe(calls, steps, applied, perf_counter() - begun)

    def _observe(self, calls: Sequence[_Call], steps: Sequence[Step], applied: Applied | None, seconds: float) -> None:
        """Tell the observers of a flush; `applied` is None if it was not committed."""
        if applied is None:
            _guarded("on_flush", self._on_flush, Flush(len(calls), steps, 0, 0, False, seconds))
            return
        stale, unknown = len(applied.stale), len(applied.unknown)
        if applied.entries:
            _guarded("on_entries", self._on_entries, applied.entries)
        if stale + unknown < len(steps):
            _guarded("on_moved", self._on_moved, list({step.bulksms_id for step in steps}))
        _guarded("on_flush", self._on_flush, Flush(len(calls), steps, stale, unknown, True, seconds))


class _InterruptedError(Exception):
    """The writer was stopped in the middle of a flush: it may have been committed, or not."""


def _guarded(observer: str, tell: Callable[[T], None], what: T) -> None:
    """Tell an observer; its fault is logged and counted."""
    try:
        tell(what)
    except Exception as error:
        count_failure("observer", f"report writer: {observer}")
        log.error("an observer of the report writer failed", observer=observer, exc_info=error)


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
