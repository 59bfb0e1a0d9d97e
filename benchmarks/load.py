"""A load client for `POST /callback`, in a process of its own: reports on the rows of a campaign, as fast as they are
answered or at a steady rate. Prints what it saw as JSON.

At a steady rate the latency of a report counts from the moment it was to go out, so a server that stalls cannot hide
it by stalling the client too. Those of the first half second, in which the connections are made, are left out.
"""

import argparse
import asyncio
import time
from collections import deque
from datetime import UTC, datetime

import msgspec
import uvloop

from salesapi.simulator.callback_client import Poster, Reply

_WARMING = 0.5  # seconds


class Seen(msgspec.Struct):
    """What a load client saw; latencies in milliseconds, of requests that were answered 200."""

    reports: int
    requests_per_s: float
    reports_per_s: float
    p50_ms: float
    p99_ms: float
    other_answers: int


class _Load:
    """Reports `status` on the rows `first` to `first + count - 1`, `array` to a request, `rate` requests a second."""

    def __init__(self, campaign: str, first: int, count: int, status: str, array: int, rate: float) -> None:
        self._seqs = iter(range(first, first + count))
        self._left = -(-count // array)
        self._array = array
        self._rate = rate
        self._body = (
            f'{{"message_id":"{campaign}-%d","status":"{status}","timestamp":"{datetime.now(UTC).isoformat()}"}}'
        )
        self._again: deque[tuple[bytes, float]] = deque()
        self._sent = 0
        self.latencies: list[float] = []
        self.other = 0
        self.done = asyncio.Event()
        self.begun = time.perf_counter()

    def take(self) -> tuple[bytes, tuple[bytes, float]] | None:
        now = time.perf_counter()
        if self._again:
            body, due = self._again.popleft()
            return body, (body, due)
        due = self.begun + self._sent / self._rate if self._rate else now
        if due > now:
            return None
        bodies = [self._body % seq for _, seq in zip(range(self._array), self._seqs, strict=False)]
        if not bodies:
            return None
        self._sent += 1
        body = (bodies[0] if self._array == 1 else f"[{','.join(bodies)}]").encode()
        return body, (body, due)

    def answered(self, what: tuple[bytes, float], reply: Reply) -> None:
        if reply.status == 200:
            if not self._rate or what[1] > self.begun + _WARMING:
                self.latencies.append(time.perf_counter() - what[1])
            self._left -= 1
            if not self._left:
                self.done.set()
        else:
            self.other += 1
            self._again.append(what)


async def _run(options: argparse.Namespace) -> Seen:
    load = _Load(options.campaign, options.first, options.count, options.status, options.array, options.rate)
    secret = options.secret.encode() or None
    poster = Poster(options.url, options.connections, load.take, load.answered, secret=secret)
    while not load.done.is_set():
        poster.wake()
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - load.begun
    await poster.close()
    latencies = sorted(load.latencies)
    return Seen(
        reports=options.count,
        requests_per_s=-(-options.count // options.array) / seconds,
        reports_per_s=options.count / seconds,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
        other_answers=load.other,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--campaign", required=True, help="its id, 32 hexadecimal digits")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--status", default="sent")
    parser.add_argument("--array", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second; 0: as fast as they are answered")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--secret", default="", help="signs the callbacks; empty: unsigned")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(_run(parser.parse_args()))).decode())
