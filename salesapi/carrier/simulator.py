"""The simulated carrier: accepts a batch once per key, and posts the reports of each message until it is answered."""

import asyncio
import random
import re
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import groupby

import aiohttp
import msgspec
import structlog

from salesapi.carrier.fate import Odds, Report, fate, leaves
from salesapi.carrier.http import Accepted, Batch, Rejection
from salesapi.carrier.store import Accepted as StoredMessage
from salesapi.carrier.store import Due, Progress, Store

log = structlog.get_logger()

_E164 = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_TRIES_REFUSED = 5  # for a report that the receiver answers with a 4xx
_WINDOW = 5_000  # reports in memory
_FLUSH_PERIOD = 0.05  # seconds between two commits of what was acknowledged
_IDLE_PERIOD = 0.02  # seconds between two looks for reports that have become due


_reports = msgspec.msgpack.Decoder(list[Report]).decode


class KeyReusedError(Exception):
    """The idempotency key belongs to another batch."""


class OverRateError(Exception):
    """More messages a second than are allowed; `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"over the rate, try again in {retry_after:.2f} s")
        self.retry_after = retry_after


class Reported(msgspec.Struct, omit_defaults=True):
    """A delivery report as it is posted."""

    message_id: str
    status: str
    timestamp: datetime
    error_code: str | None = None


class Rate:
    """A token bucket of `mps` messages a second; 0 is no limit. A batch may overdraw it, the next one waits."""

    def __init__(self, mps: int) -> None:
        self.mps = mps
        self._tokens = float(mps)
        self._at = time.monotonic()

    def take(self, messages: int) -> None:
        """Raises OverRateError."""
        if not self.mps:
            return
        now = time.monotonic()
        self._tokens = min(float(self.mps), self._tokens + (now - self._at) * self.mps)
        self._at = now
        if self._tokens <= 0:
            raise OverRateError((1 - self._tokens) / self.mps)
        self._tokens -= messages


class Simulator:
    """Accepts and reports; `array` is how many reports go in one callback, 1 sends each by itself."""

    def __init__(self, store: Store, odds: Odds, *, array: int, connections: int, mps: int) -> None:
        self.odds = odds
        self.array = array
        self.rate = Rate(mps)
        self.paused = False
        self._store = store
        self._connections = connections
        self._in_flight: set[int] = set()
        self._callbacks: asyncio.Queue[list[Due]] = asyncio.Queue(connections * 2)
        self._progress: list[Progress] = []
        self._totals: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def accept(self, key: str, batch: Batch) -> bytes:
        """Take a batch and return the answer; the same key gets the same answer, and nothing is sent twice.

        Raises KeyReusedError, OverRateError.
        """
        digest = blake2b(msgspec.json.encode(batch), digest_size=16).digest()
        known = await self._store.batch(key)
        if known is None:
            self.rate.take(len(batch.messages))
            answer, messages = self._decide(batch)
            if await self._store.accept(key, digest, answer, messages):
                return answer
            known = await self._store.batch(key)
        assert known is not None
        if known[0] != digest:
            raise KeyReusedError(f"the key {key!r} belongs to a batch of other messages")
        return known[1]

    def _decide(self, batch: Batch) -> tuple[bytes, list[StoredMessage]]:
        now = time.time()
        taken, rejected = [], []
        for message in batch.messages:
            if not _E164.match(message.to):
                rejected.append(Rejection(message.message_id, "not a number in E.164"))
                continue
            reports = fate(self.odds, message.message_id)
            taken.append(
                StoredMessage(
                    message.message_id,
                    message.to,
                    batch.callback_url,
                    int(leaves(reports)),
                    msgspec.msgpack.encode(reports),
                    now + reports[0].delay,
                )
            )
        return msgspec.json.encode(Accepted(len(taken), rejected)), taken

    def start(self) -> None:
        """Start to report, beginning with what was left by the last run."""
        self._tasks = [
            asyncio.create_task(self._feed()),
            asyncio.create_task(self._flush_often()),
            *(asyncio.create_task(self._post_all()) for _ in range(self._connections)),
        ]

    async def close(self) -> None:
        """Stop reporting; what is not acknowledged is reported by the next run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()
        await self._store.close()

    async def _feed(self) -> None:
        """Hand what is due to those who post, a bounded window at a time."""
        while True:
            room = _WINDOW - len(self._in_flight)
            due: list[Due] = []
            # What is in flight is found again by each look, so a look is only worth it for half a window.
            if room >= _WINDOW // 2 and not self.paused:
                found = await self._store.due(time.time(), _WINDOW)
                due = [one for one in found if one.id not in self._in_flight][:room]
            if not due:
                await asyncio.sleep(_IDLE_PERIOD)
            self._in_flight.update(one.id for one in due)
            for callback in self._callbacks_of(due):
                await self._callbacks.put(callback)

    def _callbacks_of(self, due: Sequence[Due]) -> Iterator[list[Due]]:
        if self.array == 1:
            yield from ([one] for one in due)
            return
        for _, group in groupby(due, key=lambda one: one.callback_url):
            waiting = deque(group)
            while waiting:
                yield [waiting.popleft() for _ in range(min(self.array, len(waiting)))]

    async def _post_all(self) -> None:
        connector = aiohttp.TCPConnector(limit=1, force_close=False)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=30)) as session:
            while True:
                callback = await self._callbacks.get()
                self._done(callback, *await self._post(session, callback))

    async def _post(self, session: aiohttp.ClientSession, callback: list[Due]) -> tuple[int, float]:
        """Post a callback. Returns the status (0 if there was none) and the Retry-After, seconds."""
        now = datetime.now(UTC)
        reports = []
        for one in callback:
            status, error_code, _ = _reports(one.reports)[one.step]
            reports.append(Reported(one.message_id, status, now, error_code))
        body = msgspec.json.encode(reports[0] if self.array == 1 else reports)
        try:
            headers = {"Content-Type": "application/json"}
            async with session.post(callback[0].callback_url, data=body, headers=headers) as answer:
                await answer.read()
                after = answer.headers.get("Retry-After", "0")
                return answer.status, float(after) if after.isdigit() else 0.0
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, 0.0

    def _done(self, callback: list[Due], status: int, retry_after: float) -> None:
        """Note what the answer means for the reports; it is committed with the next flush."""
        now = time.time()
        for one in callback:
            reports = _reports(one.reports)
            refused = 400 <= status < 500 and status not in (408, 429)
            if 200 <= status < 300 or (refused and one.attempts + 1 >= _TRIES_REFUSED):
                self._totals["acknowledged" if status < 300 else "given_up"] += 1
                step = one.step + 1
                due = now + reports[step].delay if step < len(reports) else None
                self._progress.append(Progress(step, 0, due, one.id))
            else:
                self._totals["retried"] += 1
                wait = min(0.2 * 2 ** min(one.attempts, 6), 10.0) * random.uniform(0.5, 1.0)
                due = now + max(wait, retry_after, 2.0 if refused else 0.0)
                self._progress.append(Progress(one.step, one.attempts + 1, due, one.id))

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_PERIOD)
            await self._flush()

    async def _flush(self) -> None:
        if not self._progress:
            return
        steps, self._progress = self._progress, []
        totals, self._totals = self._totals, Counter()
        await self._store.progress(steps, dict(totals))
        self._in_flight.difference_update(step.id for step in steps)
