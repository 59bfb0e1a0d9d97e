"""A load client for `POST /callback` in its own process; prints its measurements as JSON.

It sends delivery reports of a campaign, as fast as they are answered or at a steady rate. At a steady rate latency is
measured from the scheduled send time, so that a stalled server is not hidden by a stalled client.
The first half second, in which the connections open, is left out.
"""

import argparse
import asyncio
import time
from collections import deque
from datetime import UTC, datetime

import msgspec
import uvloop

from salesapi.simulator.callback_client import Poster, Reply

_WARM_UP = 0.5  # seconds


class LoadResult(msgspec.Struct):
    """The measurements of a load client; latencies in milliseconds, of requests answered with 200."""

    reports: int
    requests_per_s: float
    reports_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    other_answers: int


class _Load:
    """Sends `count` reports from row `first` on, `array` in a request, `rate` requests per second (0: no limit)."""

    def __init__(self, campaign: str, first: int, count: int, status: str, array: int, rate: float) -> None:
        self._seqs = iter(range(first, first + count))
        self._left = -(-count // array)
        self._array = array
        self._rate = rate
        self._body = (
            f'{{"message_id":"{campaign}-%d","status":"{status}","timestamp":"{datetime.now(UTC).isoformat()}"}}'
        )
        self._retries: deque[tuple[bytes, float]] = deque()
        self._sent = 0
        self.latencies: list[float] = []
        self.other = 0
        self.done = asyncio.Event()
        self.started_at = time.perf_counter()

    def take(self) -> tuple[bytes, tuple[bytes, float]] | None:
        now = time.perf_counter()
        if self._retries:
            body, due = self._retries.popleft()
            return body, (body, due)
        due = self.started_at + self._sent / self._rate if self._rate else now
        if due > now:
            return None
        bodies = [self._body % seq for _, seq in zip(range(self._array), self._seqs, strict=False)]
        if not bodies:
            return None
        self._sent += 1
        body = (bodies[0] if self._array == 1 else f"[{','.join(bodies)}]").encode()
        return body, (body, due)

    def answered(self, request: tuple[bytes, float], reply: Reply) -> None:
        if reply.status == 200:
            if not self._rate or request[1] > self.started_at + _WARM_UP:
                self.latencies.append(time.perf_counter() - request[1])
            self._left -= 1
            if not self._left:
                self.done.set()
        else:
            self.other += 1
            self._retries.append(request)


async def _run(options: argparse.Namespace) -> LoadResult:
    load = _Load(options.campaign, options.first, options.count, options.status, options.array, options.rate)
    secret = options.secret.encode() or None
    poster = Poster(options.url, options.connections, load.take, load.answered, secret=secret)
    while not load.done.is_set():
        poster.wake()
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - load.started_at
    await poster.close()
    latencies = sorted(load.latencies)
    return LoadResult(
        reports=options.count,
        requests_per_s=-(-options.count // options.array) / seconds,
        reports_per_s=options.count / seconds,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p95_ms=latencies[int(len(latencies) * 0.95)] * 1000,
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
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; 0: as fast as they are answered")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--secret", default="", help="signs the callbacks; empty: unsigned")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(_run(parser.parse_args()))).decode())
