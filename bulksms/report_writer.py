"""Group commit of delivery reports: concurrent callbacks share one batched UPDATE.

While one flush is being committed the reports of the next one are collected, so the size of a flush follows the load:
a single report is written at once, thousands in a few large statements. The UPDATE itself is in `apply_reports`.
"""

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import NamedTuple, TypeVar
from uuid import UUID

import structlog

from bulksms.apply_reports import Applied, DeliveryReport
from bulksms.handed_over import HandedOver
from bulksms.outbox import Entry
from common.database import Database
from common.observability.counters import count_failure

log = structlog.get_logger()

T = TypeVar("T")


class Outcome(NamedTuple):
    """How many of a call's reports were applied, were stale (no greater status), or are on no message that has left."""

    applied: int
    stale: int
    unknown: int


class BufferFullError(Exception):
    """The buffer is full: retry later."""


# Called once with the outcome of a call's reports; after an error none of them is known to be committed.
OnDone = Callable[[Outcome | Exception], None]


class Flush(NamedTuple):
    """One flush, as observers see it: the number of calls that shared it, their reports, and the outcome."""

    calls: int
    reports: Sequence[DeliveryReport]
    stale: int
    unknown: int
    committed: bool
    seconds: float


class _Call(NamedTuple):
    reports: Sequence[DeliveryReport]
    on_done: OnDone


class ReportWriter:
    """Collects reports and commits them in flushes; each task that runs `run` makes one flush at a time.

    `buffer`: maximum of waiting reports; `flush`: maximum of reports in one statement. Observers are called after a
    flush; their errors are logged and counted, and do not stop the writer.
    `on_entries`: the outbox entries of a committed flush; `on_changed`: ids of the campaigns that it may have changed;
    `on_flush`: every flush, committed or not.
    """

    def __init__(
        self,
        database: Database,
        *,
        buffer: int,
        flush: int,
        on_entries: Callable[[Sequence[Entry]], None],
        on_changed: Callable[[Sequence[UUID]], None] = lambda campaigns: None,
        on_flush: Callable[[Flush], None] = lambda flush: None,
    ) -> None:
        self._handed_over = HandedOver(database)
        self._buffer = buffer
        self._flush_size = flush
        self._on_entries = on_entries
        self._on_changed = on_changed
        self._on_flush = on_flush
        self._calls: list[_Call] = []
        self._waiting = 0
        self._wake = asyncio.Event()
        self._is_closing = False
        self._drained = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Reports that were submitted and are not yet committed."""
        return self._waiting

    def submit(self, reports: Sequence[DeliveryReport], on_done: OnDone) -> None:
        """Queue the reports; `on_done` is called once they are committed, or with the error.

        Raises BufferFullError with none of them queued. After a database error it is unknown whether they were
        committed: submitting them again is harmless.
        """
        if self._waiting + len(reports) > self._buffer or self._is_closing:
            raise BufferFullError
        self._calls.append(_Call(reports, on_done))
        self._waiting += len(reports)
        self._wake.set()

    async def write(self, reports: Sequence[DeliveryReport]) -> Outcome:
        """Wait until the reports are committed. Raises BufferFullError or the database error."""
        future: asyncio.Future[Outcome | Exception] = asyncio.get_running_loop().create_future()
        self.submit(reports, lambda result: None if future.done() else future.set_result(result))
        result = await future
        if isinstance(result, Exception):
            raise result
        return result

    async def run(self) -> None:
        """Flush until cancelled."""
        while True:
            await self._wake.wait()
            if calls := self._next_calls():
                await self._write(calls)
            else:
                self._wake.clear()

    async def close(self) -> None:
        """Refuse new reports and wait until the queued ones are written."""
        self._is_closing = True
        if self._waiting:
            await self._drained.wait()

    def _next_calls(self) -> list[_Call]:
        """Dequeue the oldest calls, as many as fit in one flush, and at least one."""
        size = count = 0
        for call in self._calls:
            if count and size + len(call.reports) > self._flush_size:
                break
            size += len(call.reports)
            count += 1
        calls = self._calls[:count]
        del self._calls[:count]
        return calls

    async def _write(self, calls: list[_Call]) -> None:
        """Commit the reports of these calls in one flush and call every `on_done`, also after an error."""
        reports = [report for call in calls for report in call.reports]
        started = perf_counter()
        applied: Applied | None = None
        results: Sequence[Outcome | Exception] = [_InterruptedError()] * len(calls)
        try:
            applied = await self._handed_over.apply(reports)
            results = _outcomes(calls, set(applied.stale), set(applied.unknown))
        except Exception as error:
            results = [error] * len(calls)
        finally:
            self._waiting -= len(reports)
            for call, result in zip(calls, results, strict=True):
                _notify("caller", call.on_done, result)
            if self._is_closing and not self._waiting:
                self._drained.set()
        self._observe(calls, reports, applied, perf_counter() - started)

    def _observe(
        self, calls: Sequence[_Call], reports: Sequence[DeliveryReport], applied: Applied | None, seconds: float
    ) -> None:
        """Notify the observers of a flush; `applied` is None if it was not committed."""
        if applied is None:
            _notify("on_flush", self._on_flush, Flush(len(calls), reports, 0, 0, False, seconds))
            return
        stale, unknown = len(applied.stale), len(applied.unknown)
        if applied.entries:
            _notify("on_entries", self._on_entries, applied.entries)
        if stale + unknown < len(reports):
            _notify("on_changed", self._on_changed, list({report.bulksms_id for report in reports}))
        _notify("on_flush", self._on_flush, Flush(len(calls), reports, stale, unknown, True, seconds))


class _InterruptedError(Exception):
    """The writer was stopped during a flush, which may have been committed or not."""


def _notify(observer: str, observe: Callable[[T], None], value: T) -> None:
    """Call an observer; its error is logged and counted."""
    try:
        observe(value)
    except Exception as error:
        count_failure("observer", f"report writer: {observer}")
        log.error("report writer observer failed", observer=observer, exc_info=error)


def _outcomes(calls: Sequence[_Call], stale: set[int], unknown: set[int]) -> list[Outcome]:
    """The outcome of each call in a flush, from the positions of stale and unknown reports."""
    if not stale and not unknown:
        return [Outcome(len(call.reports), 0, 0) for call in calls]
    outcomes: list[Outcome] = []
    start = 0
    for call in calls:
        span = range(start, start + len(call.reports))
        stale_count = sum(position in stale for position in span)
        unknown_count = sum(position in unknown for position in span)
        outcomes.append(Outcome(len(span) - stale_count - unknown_count, stale_count, unknown_count))
        start += len(span)
    return outcomes
