"""An HTTP client made for one thing: many small POSTs to one address, over kept connections, as fast as it answers.

A connection asks for the next body by itself as soon as its last one is answered; there is no task, future or queue for
each request, which is most of what a general client spends its time on.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import urlsplit

import httptools

from common.auth.signatures import HEADER, Secret
from common.supervisor import Supervisor

T = TypeVar("T")

_LONGEST_PAUSE = 1.0  # seconds between two tries to connect
_SWEEP = 1.0  # seconds between two looks for answers that do not come


class Answer(NamedTuple):
    """What a POST got: the status, 0 if the connection was lost first, and the Retry-After in seconds."""

    status: int
    retry_after: float


class Poster(Generic[T]):
    """Posts JSON to `url` over up to `connections` connections, one request at a time on each.

    `take` gives the next body and what it stands for, or None while there is none: then `wake` when there is.
    `done` is told the answer to each. `secret` signs each body at the moment it goes out; None: unsigned.
    `timeout`: seconds for an answer, after which the connection is given up.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        take: Callable[[], tuple[bytes, T] | None],
        done: Callable[[T, Answer], None],
        *,
        secret: bytes | None = None,
        timeout: float = 30.0,
    ) -> None:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._host, self._port = host, port
        self._ssl = ssl.create_default_context() if secure else None
        self._head = (
            f"POST {target} HTTP/1.1\r\nHost: {parts.netloc.rpartition('@')[2]}\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n" + (f"{HEADER}: %b\r\n\r\n" if secret else "\r\n")
        ).encode()
        self._secret = Secret(secret) if secret else None
        self._limit = connections
        self._take = take
        self._done = done
        self._timeout = timeout
        self._lines: set[_Line[T]] = set()
        self._idle: list[_Line[T]] = []
        self._more = asyncio.Event()
        self._closed = False
        self._supervisor = Supervisor(gives_up=False)
        self._supervisor.start("connections to a callback URL", self._connect)
        self._supervisor.start("overdue answers of a callback URL", self._sweep)

    def wake(self) -> None:
        """There is something to post: let the idle connections have it, and open more while it lasts."""
        while self._idle:
            line = self._idle.pop()
            if not line.next():
                return
        if len(self._lines) < self._limit:
            self._more.set()

    async def close(self) -> None:
        """Give up the connections; what is under way counts as lost."""
        self._closed = True
        await self._supervisor.stop()
        for line in list(self._lines):
            line.abort()
        await asyncio.sleep(0)

    async def _connect(self) -> None:
        """Open connections while those that are open are all busy."""
        pause = 0.05
        while True:
            await self._more.wait()
            try:
                async with asyncio.timeout(self._timeout):
                    await asyncio.get_running_loop().create_connection(
                        lambda: _Line(self), self._host, self._port, ssl=self._ssl
                    )
                pause = 0.05
            except (OSError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            if self._idle or len(self._lines) >= self._limit:
                self._more.clear()

    async def _sweep(self) -> None:
        """End connections whose answer is overdue."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_SWEEP)
            for line in list(self._lines):
                if line.since and clock() - line.since > self._timeout:
                    line.abort()

    # What a connection tells.

    def opened(self, line: "_Line[T]") -> None:
        self._lines.add(line)

    def work(self, line: "_Line[T]") -> tuple[bytes, T] | None:
        """The next request for a connection that is free: its bytes, and what it stands for."""
        if self._closed:
            return None
        taken = self._take()
        if taken is None:
            self._idle.append(line)
            return None
        body, what = taken
        if self._secret is None:
            return self._head % len(body) + body, what
        return self._head % (len(body), self._secret.sign(body, time.time())) + body, what

    def answered(self, what: T, answer: Answer) -> None:
        self._done(what, answer)

    def lost(self, line: "_Line[T]") -> None:
        self._lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)
        else:
            self._more.set()


class _Line(asyncio.Protocol, Generic[T]):
    """One kept connection."""

    def __init__(self, poster: Poster[T]) -> None:
        self.since = 0.0  # the loop's time when the request under way was sent; 0 if there is none
        self._poster = poster
        self._parser = httptools.HttpResponseParser(self)
        self._what: T | None = None
        self._retry_after = 0.0
        self._clock = asyncio.get_running_loop().time
        self._transport: Any = None

    def next(self) -> bool:
        """Post the next body; False, and idle, if there is none."""
        work = self._poster.work(self)
        if work is None:
            return False
        request, self._what = work
        self.since = self._clock()
        self._retry_after = 0.0
        self._transport.write(request)
        return True

    def abort(self) -> None:
        self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._poster.opened(self)
        self.next()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._poster.lost(self)
        if self.since:
            self._answered(0)

    # httptools

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and value.isdigit():
            self._retry_after = float(value)

    def on_message_complete(self) -> None:
        if not self.since:
            self._transport.abort()  # an answer that nothing was asked for
            return
        self._answered(self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self.next()
        else:
            self._transport.close()

    def _answered(self, status: int) -> None:
        what, self._what, self.since = self._what, None, 0.0
        assert what is not None
        self._poster.answered(what, Answer(status, self._retry_after))
