"""HTTP/1.1 with limits: uvicorn's protocol with bounds on the size of a request's head and on slow clients.

uvicorn over httptools accepts a head of any size, and waits forever for a request that arrives byte by byte.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common.web.problems import Problem

MOST_HEAD = 32 * 1024  # bytes of a request line and its headers
MOST_LINE = 8_000  # bytes of the URL, and of a header
MOST_HEADERS = 100
LEAST_RATE = 4 * 1024  # bytes per second of a body, over any time longer than the request timeout
LINGER = 5.0  # seconds in which a refused client may still send, so that it can read the response
SHUTDOWN_GRACE = 0.5  # seconds for requests in transit when the server stops
_TICK = 1.0  # seconds

HEAD_TOO_LARGE = Problem(
    431,
    "Headers too large",
    f"a request may have at most {MOST_HEADERS} headers, {MOST_HEAD} bytes in total and {MOST_LINE} bytes each",
)
TOO_SLOW = Problem(
    408, "Request too slow", f"the request did not arrive in time: send at least {LEAST_RATE} bytes per second"
)
NOT_HTTP = Problem(400, "Invalid HTTP", "this is not a valid HTTP/1.1 request")


_NOSNIFF = (b"x-content-type-options", b"nosniff")


def raw(problem: Problem, headers: list[tuple[bytes, bytes]], *, keep: bool = False) -> bytes:
    """Serialize the response, with these headers before its own; `keep`: the connection stays open."""
    response = problem.response()
    lines = [b"HTTP/1.1 %d %s" % (problem.status, HTTPStatus(problem.status).phrase.encode())]
    lines += [b"%s: %s" % header for header in (*headers, *response.raw_headers, _NOSNIFF)]
    if not keep:
        lines.append(b"connection: close")
    return b"\r\n".join([*lines, b"", bytes(response.body)])


def linger(transport: Any) -> None:
    """Close after LINGER: data sent to a closed socket would reset it, and destroy the unread response."""
    if transport.can_write_eof():
        transport.write_eof()
    asyncio.get_running_loop().call_later(LINGER, transport.abort)  # even if the response was not read


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's protocol, which answers 431 to a head that is too large and 408 to a request that is too slow.

    A request has `request_timeout` seconds, and each LEAST_RATE bytes of its body win back one that it has used: who
    has sent much at first must go on sending. No body takes longer than `body_timeout` seconds. Time in which the
    server does not read is not counted. `request_timeout` also closes a connection without a request, and one whose
    client does not read its response.
    """

    def __init__(self, *args: Any, request_timeout: float, body_timeout: float = 900.0, **others: Any) -> None:
        super().__init__(*args, **others)
        self._request_timeout = request_timeout
        self._body_timeout = body_timeout
        self._timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._receiving = True  # a request is being received
        self._in_head = True
        self._requests = 0  # started on this connection
        self._received = 0  # bytes of its head
        self._waited = 0.0  # seconds for the request
        self._behind = 0.0  # seconds that it is behind the least rate
        self._unread = 0  # bytes of a response
        self._stalled = 0.0  # seconds since the client read any of them
        self._refused = False
        self._last = False  # the next response is the last

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(_TICK, self._check)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        requests = self._requests
        super().data_received(data)
        if self._receiving and self._in_head and self._requests == requests:  # all within one head
            self._received += len(data)
            if self._received > MOST_HEAD:
                self._refuse(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = self._in_head = True
        self._requests += 1
        self._received = 0
        self._waited = self._behind = 0.0

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
            self._behind = max(0.0, self._behind - len(body) / LEAST_RATE)
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        if not self._refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._receiving and not self._in_head and self.cycle.response_complete:
            # Answered before the whole request was received: the rest of it has LINGER seconds.
            self._linger_timer = self.loop.call_later(LINGER, self.transport.abort)

    def shutdown(self) -> None:
        """Stop: a request in transit on a kept connection is still answered, as the last one."""
        self._last = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(SHUTDOWN_GRACE, self._close_if_idle)

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
        """Enforce the timeouts, once a second."""
        if self.transport.is_closing():
            return
        self._timer = self.loop.call_later(_TICK, self._check)
        unread = self.transport.get_write_buffer_size()
        self._stalled = self._stalled + _TICK if unread and unread == self._unread else 0.0
        self._unread = unread
        if self._stalled > self._request_timeout:
            self.transport.abort()
        if self._refused or self._linger_timer or not self._receiving or self.flow.read_paused:
            return
        self._waited += _TICK
        self._behind += _TICK
        if self._behind > self._request_timeout or self._waited > self._body_timeout:
            if self._requests:
                self._refuse(TOO_SLOW)
            else:
                self.transport.close()  # there is no request to answer

    def _refuse(self, problem: Problem) -> None:
        """Answer with `problem`, unless the response has started, and read nothing more."""
        self._refused = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if self._in_head:  # it answers the previous request: let it finish, then close
                cycle.keep_alive = False
                return
            cycle.disconnected = True  # its handler sees a disconnected client, and writes nothing more
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        self.flow.resume_reading()
        self.transport.write(raw(problem, self.server_state.default_headers))
        linger(self.transport)

    def _stop(self) -> None:
        for timer in (self._timer, self._linger_timer):
            if timer is not None:
                timer.cancel()
