"""The simulated carrier: accepts a batch once per key, and posts the reports of each message until it is answered."""

import asyncio
import heapq
import random
import re
import time
from collections import Counter, deque
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from salesapi.carrier.http import Accepted, Batch, Rejection
from salesapi.simulator.callback_client import Answer, Poster
from salesapi.simulator.fate import Fate, Odds, fate
from salesapi.simulator.store import NewBatch, NewMessage, Progress, Store

_E164 = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_TRIES_REFUSED = 5  # for a report that the receiver answers with a 4xx
_WINDOW = 100_000  # messages in memory; batches beyond wait in the store
_TICK = 0.01  # seconds: how exact the times of the reports are
_FLUSH_PERIOD = 0.05  # seconds between two commits of what was acknowledged
_IDLE = 60.0  # seconds after which the connections to a receiver are closed

_encode = msgspec.json.Encoder().encode


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


class _Pending:
    """A batch in memory: its messages, their fates, and how many reports of each were acknowledged."""

    __slots__ = ("fates", "id", "left", "message_ids", "receiver", "steps")

    def __init__(
        self, batch_id: int, receiver: "_Receiver", message_ids: list[str], fates: list[Fate], steps: bytearray
    ) -> None:
        self.id = batch_id
        self.receiver = receiver
        self.message_ids = message_ids
        self.fates = fates
        self.steps = steps
        self.left = sum(step < len(fate.reports) for step, fate in zip(steps, fates, strict=True))


# The next report of a message: its batch and its place there.
_Due = tuple[_Pending, int]


class _Receiver:
    """Who takes reports: those that are due, and the connections that post them."""

    def __init__(self) -> None:
        self.due: deque[_Due] = deque()
        self.poster: Poster[list[_Due]]
        self.pending = 0  # messages in memory
        self.idle_since = 0.0


class Simulator:
    """Accepts and reports; `array` is how many reports go in one callback, 1 sends each by itself.

    `secret` signs the callbacks; None leaves them unsigned.
    """

    def __init__(
        self, store: Store, odds: Odds, *, array: int, connections: int, mps: int, secret: bytes | None = None
    ) -> None:
        self.odds = odds
        self.array = array
        self.rate = Rate(mps)
        self.paused = False
        self._store = store
        self._connections = connections
        self._secret = secret
        self._receivers: dict[str, _Receiver] = {}
        self._backlog: deque[int] = deque()  # batches in the store that are not in memory
        self._pending = 0  # messages in memory
        self._later: dict[int, list[_Due]] = {}  # by the tick at which they are due
        self._ticks: list[int] = []  # the heap of its keys
        self._attempts: Counter[_Due] = Counter()  # of reports that were not acknowledged at once
        self._changed: set[_Pending] = set()
        self._totals: Counter[str] = Counter()

    async def accept(self, key: str, batch: Batch) -> bytes:
        """Take a batch and return the answer; the same key gets the same answer, and nothing is sent twice.

        Raises KeyReusedError, OverRateError.
        """
        digest = blake2b(_encode(batch), digest_size=16).digest()
        known = await self._store.answered(key)
        if known is None:
            self.rate.take(len(batch.messages))
            taken = [message for message in batch.messages if _E164.match(message.to)]
            rejected = [
                Rejection(message.message_id, "not a number in E.164")
                for message in batch.messages
                if not _E164.match(message.to)
            ]
            fates = [fate(self.odds, message.message_id) for message in taken]
            answer = _encode(Accepted(len(taken), rejected))
            number = await self._store.accept(
                NewBatch(key, digest, answer, batch.callback_url, _encode(self.odds), time.time()),
                [NewMessage(m.message_id, m.to, int(f.leaves)) for m, f in zip(taken, fates, strict=True)],
            )
            if number is not None:
                if taken and not self._backlog and self._pending < _WINDOW:
                    ids = [message.message_id for message in taken]
                    self._begin(number, batch.callback_url, ids, fates, bytearray(len(taken)), 0.0)
                elif taken:
                    self._backlog.append(number)
                return answer
            known = await self._store.answered(key)
        assert known is not None
        if known.digest != digest:
            raise KeyReusedError(f"the key {key!r} belongs to a batch of other messages")
        return known.answer

    async def load(self) -> None:
        """Take up what was left by the last run."""
        self._backlog.extend(await self._store.open_batches())

    async def close(self) -> None:
        """Stop reporting; what is not acknowledged is reported by the next run."""
        await asyncio.gather(*(receiver.poster.close() for receiver in self._receivers.values()))
        await self._flush()
        await self._store.close()

    # When a report is due.

    def _begin(self, number: int, url: str, ids: list[str], fates: list[Fate], steps: bytearray, age: float) -> None:
        """Take a batch into memory, `age` seconds after it was accepted."""
        receiver = self._receivers.get(url) or self._new_receiver(url)
        batch = _Pending(number, receiver, ids, fates, steps)
        receiver.pending += batch.left
        self._pending += batch.left
        for place, (reports, delay) in enumerate(fates):
            if steps[place] < len(reports):
                self._schedule((batch, place), max(0.0, delay * (steps[place] + 1) - age))

    def _new_receiver(self, url: str) -> _Receiver:
        receiver = self._receivers[url] = _Receiver()
        receiver.poster = Poster(
            url, self._connections, lambda: self._take(receiver), self._answered, secret=self._secret
        )
        return receiver

    def _schedule(self, due: _Due, delay: float) -> None:
        now = time.monotonic()
        tick = int((now + delay) / _TICK)
        if tick <= int(now / _TICK):
            due[0].receiver.due.append(due)
        elif (later := self._later.get(tick)) is not None:
            later.append(due)
        else:
            self._later[tick] = [due]
            heapq.heappush(self._ticks, tick)

    async def make_due(self) -> None:
        """Until cancelled: make due what is due, and take batches into memory while there is room."""
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            while self._ticks and self._ticks[0] <= now / _TICK:
                for due in self._later.pop(heapq.heappop(self._ticks)):
                    due[0].receiver.due.append(due)
            while self._backlog and self._pending < _WINDOW:
                number = self._backlog.popleft()
                stored = await self._store.load(number)
                odds = msgspec.json.decode(stored.odds, type=Odds)
                fates = [fate(odds, one) for one in stored.message_ids]
                age = time.time() - stored.accepted_at
                self._begin(number, stored.callback_url, stored.message_ids, fates, bytearray(stored.steps), age)
            for url, receiver in list(self._receivers.items()):
                if receiver.due:
                    receiver.poster.wake()
                if receiver.pending:
                    receiver.idle_since = now
                elif now - receiver.idle_since > _IDLE:
                    del self._receivers[url]
                    await receiver.poster.close()

    # Posting.

    def _take(self, receiver: _Receiver) -> tuple[bytes, list[_Due]] | None:
        """The next callback: its body, and the reports in it."""
        if self.paused or not receiver.due:
            return None
        now = datetime.now(UTC)
        if self.array == 1:
            due = receiver.due.popleft()
            return _encode(_report(due, now)), [due]
        taken = [receiver.due.popleft() for _ in range(min(self.array, len(receiver.due)))]
        return _encode([_report(due, now) for due in taken]), taken

    def _answered(self, callback: list[_Due], answer: Answer) -> None:
        """Note what the answer means for the reports; it is committed with the next flush."""
        status, retry_after = answer
        refused = 400 <= status < 500 and status not in (408, 429)
        for due in callback:
            if 200 <= status < 300:
                self._totals["acknowledged"] += 1
                self._step(due)
            elif refused and self._attempts[due] + 1 >= _TRIES_REFUSED:
                self._totals["given_up"] += 1
                self._step(due)
            else:
                self._totals["retried"] += 1
                wait = min(0.2 * 2 ** min(self._attempts[due], 6), 10.0) * random.uniform(0.5, 1.0)
                self._attempts[due] += 1
                self._schedule(due, max(wait, retry_after, 2.0 if refused else 0.0))

    def _step(self, due: _Due) -> None:
        """A report is done with: the next one comes, or the message is."""
        batch, place = due
        if self._attempts:
            self._attempts.pop(due, None)
        batch.steps[place] += 1
        self._changed.add(batch)
        reports, delay = batch.fates[place]
        if batch.steps[place] < len(reports):
            self._schedule(due, delay)
            return
        batch.left -= 1
        batch.receiver.pending -= 1
        self._pending -= 1

    async def flush_often(self) -> None:
        """Until cancelled: commit what was acknowledged."""
        while True:
            await asyncio.sleep(_FLUSH_PERIOD)
            await self._flush()

    async def _flush(self) -> None:
        if not self._totals:
            return
        changed, self._changed = self._changed, set()
        totals, self._totals = self._totals, Counter()
        progress = [Progress(bytes(batch.steps), batch.left > 0, batch.id) for batch in changed]
        await self._store.progress(progress, dict(totals))


def _report(due: _Due, now: datetime) -> Reported:
    batch, place = due
    status, error_code = batch.fates[place].reports[batch.steps[place]]
    return Reported(batch.message_ids[place], status, now, error_code)
