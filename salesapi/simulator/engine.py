"""The simulated carrier: accepts a batch once per key, and posts delivery reports until they are acknowledged."""

import asyncio
import heapq
import random
import re
import time
from collections import Counter, deque
from collections.abc import Collection
from datetime import UTC, datetime
from hashlib import blake2b

import msgspec

from salesapi.carrier.http import Accepted, Batch, Rejection
from salesapi.simulator.callback_client import Poster, Reply
from salesapi.simulator.outcome import NetworkModel, Outcome, decide_outcome
from salesapi.simulator.rate import RateLimit
from salesapi.simulator.store import NewBatch, NewMessage, Progress, Store

_E164 = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_MAX_REFUSED_ATTEMPTS = 5  # of a report that the receiver answers with a 4xx
_WINDOW = 100_000  # messages in memory; further batches stay in the store
_TICK = 0.01  # seconds: resolution of the report times
_FLUSH_PERIOD = 0.05  # seconds between two commits of acknowledgements
_IDLE = 60.0  # seconds after which the connections to a receiver are closed

_encode = msgspec.json.Encoder().encode


class KeyReusedError(Exception):
    """The idempotency key was used for another batch."""


class Reported(msgspec.Struct, omit_defaults=True):
    """A delivery report as it is posted."""

    message_id: str
    status: str
    timestamp: datetime
    error_code: str | None = None


class _Pending:
    """A batch in memory: its messages, their outcomes, and the number of acknowledged reports of each."""

    __slots__ = ("id", "left", "message_ids", "outcomes", "receiver", "steps")

    def __init__(
        self, batch_id: int, receiver: "_Receiver", message_ids: list[str], outcomes: list[Outcome], steps: bytearray
    ) -> None:
        self.id = batch_id
        self.receiver = receiver
        self.message_ids = message_ids
        self.outcomes = outcomes
        self.steps = steps
        self.left = sum(step < len(outcome.reports) for step, outcome in zip(steps, outcomes, strict=True))


# The next report of a message, as its batch and its index in the batch.
_Due = tuple[_Pending, int]


class _Receiver:
    """A callback URL: the reports due there, and the connections that post them."""

    def __init__(self) -> None:
        self.due: deque[_Due] = deque()
        self.poster: Poster[list[_Due]]
        self.pending = 0  # messages in memory
        self.idle_since = 0.0


class Simulator:
    """Accepts batches and posts reports; `array`: reports per callback, 1 posts single reports.

    `secret` signs the callbacks; None leaves them unsigned.
    """

    def __init__(
        self,
        store: Store,
        network: NetworkModel,
        *,
        array: int,
        connections: int,
        mps: int,
        secret: bytes | None = None,
    ) -> None:
        self.network = network
        self.array = array
        self.rate = RateLimit(mps)
        self.paused = False
        self._store = store
        self._connections = connections
        self._secret = secret
        self._receivers: dict[str, _Receiver] = {}
        self._backlog: deque[int] = deque()  # batches that are only in the store
        self._pending = 0  # messages in memory
        self._later: dict[int, list[_Due]] = {}  # by tick
        self._ticks: list[int] = []  # a heap of the keys of _later
        self._attempts: Counter[_Due] = Counter()  # failed attempts per report
        self._changed: set[_Pending] = set()
        self._totals: Counter[str] = Counter()

    async def accept(self, key: str, batch: Batch) -> bytes:
        """Accept a batch and return the response; the same key gets the same response, with nothing sent twice.

        Raises KeyReusedError, RateLimitError.
        """
        digest = blake2b(_encode(batch), digest_size=16).digest()
        stored = await self._store.response(key)
        if stored is None:
            self.rate.take(len(batch.messages))
            accepted = [message for message in batch.messages if _E164.match(message.to)]
            rejected = [
                Rejection(message.message_id, "not a number in E.164")
                for message in batch.messages
                if not _E164.match(message.to)
            ]
            outcomes = [decide_outcome(self.network, message.message_id) for message in accepted]
            response = _encode(Accepted(len(accepted), rejected))
            number = await self._store.accept(
                NewBatch(key, digest, response, batch.callback_url, _encode(self.network), time.time()),
                [NewMessage(m.message_id, m.to, int(o.reaches_phone)) for m, o in zip(accepted, outcomes, strict=True)],
            )
            if number is not None:
                if accepted and not self._backlog and self._pending < _WINDOW:
                    ids = [message.message_id for message in accepted]
                    self._begin(number, batch.callback_url, ids, outcomes, bytearray(len(accepted)), 0.0)
                elif accepted:
                    self._backlog.append(number)
                return response
            stored = await self._store.response(key)
        assert stored is not None
        if stored.digest != digest:
            raise KeyReusedError(f"the key {key!r} was used for a batch of other messages")
        return stored.response

    async def load(self, callback_urls: Collection[str]) -> None:
        """Continue the batches that the last run left open, as far as their callback URL is still allowed."""
        self._backlog.extend(await self._store.open_batches(callback_urls))

    async def close(self) -> None:
        """Stop reporting; the next run posts the reports that are not acknowledged."""
        await asyncio.gather(*(receiver.poster.close() for receiver in self._receivers.values()))
        await self._flush()
        await self._store.close()

    # Scheduling

    def _begin(
        self, number: int, url: str, ids: list[str], outcomes: list[Outcome], steps: bytearray, age: float
    ) -> None:
        """Take a batch into memory, `age` seconds after it was accepted."""
        receiver = self._receivers.get(url) or self._new_receiver(url)
        batch = _Pending(number, receiver, ids, outcomes, steps)
        receiver.pending += batch.left
        self._pending += batch.left
        for index, (reports, delay) in enumerate(outcomes):
            if steps[index] < len(reports):
                self._schedule((batch, index), max(0.0, delay * (steps[index] + 1) - age))

    def _new_receiver(self, url: str) -> _Receiver:
        receiver = self._receivers[url] = _Receiver()
        receiver.poster = Poster(
            url, self._connections, lambda: self._next_callback(receiver), self._answered, secret=self._secret
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

    async def run_schedule(self) -> None:
        """Until cancelled, pass due reports to their receivers and load stored batches while there is room."""
        while True:
            await asyncio.sleep(_TICK)
            now = time.monotonic()
            while self._ticks and self._ticks[0] <= now / _TICK:
                for due in self._later.pop(heapq.heappop(self._ticks)):
                    due[0].receiver.due.append(due)
            while self._backlog and self._pending < _WINDOW:
                number = self._backlog.popleft()
                stored = await self._store.load(number)
                network = msgspec.json.decode(stored.network, type=NetworkModel)
                outcomes = [decide_outcome(network, message_id) for message_id in stored.message_ids]
                age = time.time() - stored.accepted_at
                self._begin(number, stored.callback_url, stored.message_ids, outcomes, bytearray(stored.steps), age)
            for url, receiver in list(self._receivers.items()):
                if receiver.due:
                    receiver.poster.wake()
                if receiver.pending:
                    receiver.idle_since = now
                elif now - receiver.idle_since > _IDLE:
                    del self._receivers[url]
                    await receiver.poster.close()

    # Posting

    def _next_callback(self, receiver: _Receiver) -> tuple[bytes, list[_Due]] | None:
        """The next callback, as its body and the reports in it."""
        if self.paused or not receiver.due:
            return None
        now = datetime.now(UTC)
        if self.array == 1:
            due = receiver.due.popleft()
            return _encode(_report(due, now)), [due]
        reports = [receiver.due.popleft() for _ in range(min(self.array, len(receiver.due)))]
        return _encode([_report(due, now) for due in reports]), reports

    def _answered(self, callback: list[_Due], reply: Reply) -> None:
        """Record the response to a callback for its reports; it is committed with the next flush."""
        status, retry_after = reply
        refused = 400 <= status < 500 and status not in (408, 429)
        for due in callback:
            if 200 <= status < 300:
                self._totals["acknowledged"] += 1
                self._step(due)
            elif refused and self._attempts[due] + 1 >= _MAX_REFUSED_ATTEMPTS:
                self._totals["given_up"] += 1
                self._step(due)
            else:
                self._totals["retried"] += 1
                wait = min(0.2 * 2 ** min(self._attempts[due], 6), 10.0) * random.uniform(0.5, 1.0)
                self._attempts[due] += 1
                self._schedule(due, max(wait, retry_after, 2.0 if refused else 0.0))

    def _step(self, due: _Due) -> None:
        """Finish a report: schedule the next one of the message, or finish the message."""
        batch, index = due
        if self._attempts:
            self._attempts.pop(due, None)
        batch.steps[index] += 1
        self._changed.add(batch)
        reports, delay = batch.outcomes[index]
        if batch.steps[index] < len(reports):
            self._schedule(due, delay)
            return
        batch.left -= 1
        batch.receiver.pending -= 1
        self._pending -= 1

    async def run_flush(self) -> None:
        """Until cancelled, commit the acknowledgements periodically."""
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
    batch, index = due
    status, error_code = batch.outcomes[index].reports[batch.steps[index]]
    return Reported(batch.message_ids[index], status, now, error_code)
