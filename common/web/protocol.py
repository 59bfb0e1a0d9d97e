"""HTTP/1.1 as far as a service is willing to take it in: uvicorn's protocol with bounds on size and on slowness.

uvicorn over httptools takes a head of any size, and waits for ever for a request that comes byte by byte.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.web.problems import Problem

MOST_HEAD = 32 * 1024  # bytes of a request line and its headers
MOST_LINE = 8_000  # bytes of the URL, and of a header
MOST_HEADERS = 100
LEAST_RATE = 4 * 1024  # bytes of a body a second, beyond the request's own seconds
LINGER = 5.0  # seconds in which who is refused may still send, so that it comes to read why
FAREWELL = 0.5  # seconds for requests that are on their way when the server ends
_TICK = 1.0  # seconds

HEAD_TOO_LARGE = Problem(
    431,
    "Headers too large",
    f"a request may have {MOST_HEADERS} headers and {MOST_HEAD} bytes of them, none longer than {MOST_LINE}",
)
TOO_SLOW = Problem(
    408, "Request too slow", f"the request did not come in in time: send at least {LEAST_RATE} bytes of it a second"
)
NOT_HTTP = Problem(400, "HTTP not understood", "this is no request of HTTP/1.1")


def raw(problem: Problem, headers: list[tuple[bytes, bytes]], *, keep: bool = False) -> bytes:
    """The answer as it goes over the wire, with these headers before its own; `keep` the connection afterwards?"""
    response = problem.response()
    lines = [b"HTTP/1.1 %d %s" % (problem.status, HTTPStatus(problem.status).phrase.encode())]
    lines += [b"%s: %s" % header for header in (*headers, *response.raw_headers)]
    if not keep:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", bytes(response.body)])


def linger(transport: Any) -> None:
    """Close in a while: what a client still sends to a closed socket would destroy the answer that it has not read."""
    if transport.can_write_eof():
        transport.write_eof()
    asyncio.get_running_loop().call_later(LINGER, transport.abort)  # also if the answer was not read: enough


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol. A request whose head is too large is answered 431, one that comes too slowly 408.

    A request has `request_timeout` seconds, its body one more for every LEAST_RATE bytes; time in which we do not read
    is not counted. A connection on which no request ever begins has the same time, and so has a client that reads
    nothing of its answer.
    """

    def __init__(self, *args: Any, request_timeout: float, **others: Any) -> None:
        super().__init__(*args, **others)
        self._request_timeout = request_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: asyncio.TimerHandle | None = None
        self._coming = True  # a request is coming in
        self._in_head = True
        self._begun = 0  # requests
        self._received = 0  # bytes of its head
        self._body_size = 0
        self._waited = 0.0  # seconds for it
        self._unread = 0  # bytes of an answer
        self._stalled = 0.0  # seconds since the client read any of them
        self._refused = False
        self._last = False  # the next answer is the last

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(_TICK, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        begun = self._begun
        super().data_received(data)
        if self._coming and self._in_head and self._begun == begun:  # all of it belongs to one head
            self._received += len(data)
            if self._received > MOST_HEAD:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._coming = self._in_head = True
        self._begun += 1
        self._received = self._body_size = 0
        self._waited = 0.0

    def on_headers_complete(self) -> None:
        if self._refused:
            return
        sizes = [len(name) + len(value) for name, value in self.headers]
        if len(sizes) > MOST_HEADERS or max(len(self.url), *sizes, 0) > MOST_LINE or sum(sizes) > MOST_HEAD:
            self._refuse(HEAD_TOO_LARGE)
            return
        self._in_head = False
        super().on_headers_complete()
        if self._last and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            self._body_size += len(body)
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._coming = False
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._coming and not self._in_head and self.cycle.response_complete:
            # Answered before the request was all there: the rest of it is not awaited for long.
            self._leaving = self.loop.call_later(LINGER, self.transport.abort)

    def shutdown(self) -> None:
        """The server ends: what is on its way on a kept connection is still answered, as the last."""
        self._last = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(FAREWELL, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def handle_websocket_upgrade(self) -> None:
        if self._refused:
            return
        self._stop()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        if not self._refused:
            self._refuse(NOT_HTTP)

    def _check(self) -> None:
        """Each second: has the client had its time?"""
        if self.transport.is_closing():
            return
        self._timer = self.loop.call_later(_TICK, self._check)
        unread = self.transport.get_write_buffer_size()
        self._stalled = self._stalled + _TICK if unread and unread == self._unread else 0.0
        self._unread = unread
        if self._stalled > self._request_timeout:
            self.transport.abort()
        if self._refused or self._leaving or not self._coming or self.flow.read_paused:
            return
        self._waited += _TICK
        if self._waited > self._request_timeout + self._body_size / LEAST_RATE:
            if self._begun:
                self._refuse(TOO_SLOW)
            else:
                self.transport.close()  # nothing was asked

    def _refuse(self, problem: Problem) -> None:
        """Answer this, if the request's answer has not begun, and take in nothing more."""
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:  # it answers the request before this one: let it, and go
                cycle.keep_alive = False
                return
            cycle.disconnected = True  # its handler is told that the client is gone, and writes nothing more
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.flow.resume_reading()
        self.transport.write(raw(problem, self.server_state.default_headers))
        linger(self.transport)

    def _stop(self) -> None:
        for timer in (self._timer, self._leaving):
            if timer is not None:
                timer.cancel()
