"""An HTTP client for many small POSTs to one address over persistent connections.

A connection requests the next body itself as soon as its last one is answered; there is no task, future or queue per
request, which is most of the cost of a general client.
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

_MAX_BACKOFF = 1.0  # seconds between two attempts to connect
_TIMEOUT_CHECK = 1.0  # seconds between two checks for overdue responses


class Reply(NamedTuple):
    """The response to a POST: its status (0 if the connection was lost) and Retry-After in seconds."""

    status: int
    retry_after: float


class Poster(Generic[T]):
    """Posts JSON to `url` over up to `connections` connections, one request at a time on each.

    `next_body` returns the next body and its context, or None; then call `wake` once there is one. `on_reply` is called
    with the context and the reply. `secret` signs each body when it is sent; None: unsigned.
    `timeout`: seconds for a response, after which the connection is aborted.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        next_body: Callable[[], tuple[bytes, T] | None],
        on_reply: Callable[[T, Reply], None],
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
        self._next_body = next_body
        self._on_reply = on_reply
        self._timeout = timeout
        self._connections: set[_Connection[T]] = set()
        self._idle: list[_Connection[T]] = []
        self._more = asyncio.Event()
        self._closed = False
        self._supervisor = Supervisor(gives_up=False)
        self._supervisor.start("connections to a callback URL", self._connect)
        self._supervisor.start("response timeouts of a callback URL", self._abort_overdue)

    def wake(self) -> None:
        """Post new bodies over the idle connections, and open more connections if needed."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.next():
                return
        if len(self._connections) < self._limit:
            self._more.set()

    async def close(self) -> None:
        """Abort the connections; requests in progress count as lost."""
        self._closed = True
        await self._supervisor.stop()
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)

    async def _connect(self) -> None:
        """Open connections while all open ones are busy."""
        pause = 0.05
        while True:
            await self._more.wait()
            try:
                async with asyncio.timeout(self._timeout):
                    await asyncio.get_running_loop().create_connection(
                        lambda: _Connection(self), self._host, self._port, ssl=self._ssl
                    )
                pause = 0.05
            except (OSError, TimeoutError):
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_BACKOFF)
            if self._idle or len(self._connections) >= self._limit:
                self._more.clear()

    async def _abort_overdue(self) -> None:
        """Abort connections whose response is overdue."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_TIMEOUT_CHECK)
            for connection in list(self._connections):
                if connection.since and clock() - connection.since > self._timeout:
                    connection.abort()

    # Called by the connections

    def opened(self, connection: "_Connection[T]") -> None:
        self._connections.add(connection)

    def next_request(self, connection: "_Connection[T]") -> tuple[bytes, T] | None:
        """The next request for a free connection, as its bytes and its context."""
        if self._closed:
            return None
        item = self._next_body()
        if item is None:
            self._idle.append(connection)
            return None
        body, context = item
        if self._secret is None:
            return self._head % len(body) + body, context
        return self._head % (len(body), self._secret.sign(body, time.time())) + body, context

    def answered(self, context: T, answer: Reply) -> None:
        self._on_reply(context, answer)

    def lost(self, connection: "_Connection[T]") -> None:
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        else:
            self._more.set()


class _Connection(asyncio.Protocol, Generic[T]):
    """One persistent connection."""

    def __init__(self, poster: Poster[T]) -> None:
        self.since = 0.0  # loop time at which the current request was sent; 0 if there is none
        self._poster = poster
        self._parser = httptools.HttpResponseParser(self)
        self._context: T | None = None
        self._retry_after = 0.0
        self._clock = asyncio.get_running_loop().time
        self._transport: Any = None

    def next(self) -> bool:
        """Post the next body; False (and idle) if there is none."""
        request_and_context = self._poster.next_request(self)
        if request_and_context is None:
            return False
        request, self._context = request_and_context
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
            self._transport.abort()  # a response without a request
            return
        self._answered(self._parser.get_status_code())
        if self._parser.should_keep_alive():
            self.next()
        else:
            self._transport.close()

    def _answered(self, status: int) -> None:
        context, self._context, self.since = self._context, None, 0.0
        assert context is not None
        self._poster.answered(context, Reply(status, self._retry_after))
