"""HTTP/1.1 for `POST /callback` alone, from the socket to the report writer and back.

A web server creates a scope, a task, an event and a timer for each request, and writes each response in two parts. That
is most of the cost of a callback; here it is a parser, the writer, and one write. The states of a connection:

    IDLE --------- a request starts -------> RECEIVING
    IDLE --------- another kind of request > HANDED_BACK (to ConnectionProtocol)
    RECEIVING ---- request complete -------> COMMITTING
    COMMITTING --- last response written --> IDLE, or RECEIVING if another request has started meanwhile
    COMMITTING --- input ends -------------> ENDING (the client sent EOF, or its next request was refused)
    COMMITTING, ENDING -- last response ---> CLOSED, or LINGERING after a refusal
    RECEIVING ---- refused ----------------> LINGERING
    LINGERING ---- after some seconds -----> CLOSED

In COMMITTING and ENDING one request is with the writer; later ones are queued and answered in order.
`_leave` enters the last three.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

import httptools
from uvicorn.server import ServerState

from bulksms.report_writer import Outcome
from common.auth.signatures import HEADER
from common.web.problems import Problem
from common.web.protocol import HEAD_TOO_LARGE, MOST_HEAD, NOT_HTTP, SHUTDOWN_GRACE, TOO_SLOW, linger
from common.web.requests import too_large
from salesapi.salesapi.callback import MAX_BYTES, Callback

PREFIXES = (b"POST /callback ", b"POST /callback?")  # of the requests that this protocol serves
_PATH = b"/callback"
_SIGNATURE = HEADER.lower().encode()
_MAX_QUEUED = 64  # pipelined requests on a connection
_KEEP_ALIVE = 75.0  # seconds; longer than clients keep theirs, else a request may be sent to a closing connection


class State(Enum):
    """The state of a connection; see the top of this module."""

    IDLE = auto()
    RECEIVING = auto()
    COMMITTING = auto()
    ENDING = auto()
    LINGERING = auto()
    CLOSED = auto()
    HANDED_BACK = auto()


# Reading a global is several times faster than reading an Enum member, and each callback needs a dozen.
IDLE, RECEIVING, COMMITTING, ENDING, LINGERING, CLOSED, HANDED_BACK = State
_RECEIVES = (IDLE, RECEIVING, COMMITTING)
_ENDED = (LINGERING, CLOSED, HANDED_BACK)


class _Request:
    """A request, complete or being received."""

    __slots__ = ("body", "foreign", "keep_alive", "signature", "started", "url")

    def __init__(self, started: float) -> None:
        self.started = started  # on the loop's clock
        self.url = b""
        self.signature = b""
        self.body = bytearray()
        self.keep_alive = True  # the client wants to keep the connection
        self.foreign = 0  # reports whose message id was not issued by us


class CallbackProtocol(asyncio.Protocol):
    """One connection; its requests are answered in order.

    `hand_back` is called with the first bytes of a request that is not a callback, and whether the server is stopping.
    """

    def __init__(
        self,
        callback: Callback,
        server_state: ServerState,
        request_timeout: float,
        hand_back: Callable[[bytes, bool], None],
    ) -> None:
        self._callback = callback
        self._server = server_state
        self._request_timeout = request_timeout
        self._hand_back = hand_back
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._state = IDLE
        self._last_received = self._loop.time()
        self._incoming: _Request | None = None
        self._received = 0  # bytes of the incoming request
        self._committing: _Request | None = None  # with the writer, or the last one that was
        self._queued: deque[_Request | Problem] = deque()  # a Problem refuses a request, and is the last
        self._other = b""  # first bytes of a request that is not a callback
        self._is_unread = False  # the client does not read its responses
        self._is_stopping = False  # the server is stopping: the next response is the last

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # only shutdown() is called on it
        self._loop.call_later(min(_KEEP_ALIVE, self._request_timeout), self._check_time)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._leave(CLOSED)

    def data_received(self, data: bytes) -> None:
        self._last_received = self._loop.time()
        if self._state not in _RECEIVES:
            return
        if self._incoming is None and (self._other or not data.startswith(PREFIXES)):
            self._other += data
            self._transport.pause_reading()  # until the requests before it are answered
            self._hand_back_if_idle()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(NOT_HTTP)
        if self._incoming is not None and self._received > MOST_HEAD:
            if not self._incoming.body:
                self._refuse(HEAD_TOO_LARGE)
            elif self._received > MAX_BYTES + MOST_HEAD:
                self._refuse(too_large(MAX_BYTES))

    def eof_received(self) -> bool:
        """Answer what was received: the client may still wait for responses."""
        self._stop_receiving()
        return self._state is ENDING

    def pause_writing(self) -> None:
        """Stop reading from a client that does not read its responses."""
        self._is_unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_unread = False
        self._resume_reading()
        self._hand_back_if_idle()

    # uvicorn

    def shutdown(self) -> None:
        """Answer the requests that were received or are being received, then close."""
        self._is_stopping = True
        self._loop.call_later(SHUTDOWN_GRACE, self._close_if_idle)

    # httptools

    def on_message_begin(self) -> None:
        self._incoming = _Request(self._last_received)
        if self._state is IDLE:
            self._state = RECEIVING

    def on_url(self, url: bytes) -> None:
        assert self._incoming is not None
        self._incoming.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._incoming is not None
        name = name.lower()
        if name == _SIGNATURE:
            self._incoming.signature = value
        elif name == b"expect" and value.lower() == b"100-continue" and self._state is RECEIVING:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        assert self._incoming is not None
        self._incoming.body += body

    def on_message_complete(self) -> None:
        request, self._incoming = self._incoming, None
        self._received = 0
        assert request is not None
        if self._parser.should_upgrade():
            return  # the parser raises next, and the request is refused
        if request.url.partition(b"?")[0] != _PATH or self._parser.get_method() != b"POST":
            self._stop_receiving()  # pipelined behind a callback: too rare to serve, the client repeats it
        elif len(request.body) > MAX_BYTES:
            self._refuse(too_large(MAX_BYTES))
        else:
            request.keep_alive = self._parser.should_keep_alive()
            self._enqueue(request)

    # Requests

    def _enqueue(self, request: _Request | Problem) -> None:
        """Answer the request after those before it."""
        if self._state is COMMITTING:
            self._queued.append(request)
            if len(self._queued) == _MAX_QUEUED:
                self._transport.pause_reading()
        elif self._state in _RECEIVES:
            self._state = COMMITTING
            if not self._commit(request):
                self._finish_queue()

    def _refuse(self, problem: Problem) -> None:
        """Refuse a request after answering those before it, and end the connection."""
        self._enqueue(problem)
        self._stop_receiving()

    def _stop_receiving(self) -> None:
        """Receive no more requests; those received are answered."""
        if self._state is COMMITTING:
            self._state = ENDING
        elif self._state in _RECEIVES:
            self._leave(CLOSED)

    def _commit(self, request: _Request | Problem) -> bool:
        """Hand the reports to the writer; False if the request was answered with a problem instead."""
        if isinstance(request, Problem):
            self._answer(request, LINGERING)
            return False
        self._committing = request
        try:
            reports, request.foreign = self._callback.read(request.body, request.signature)
            self._callback.submit(reports, self._committed)
        except Exception as error:
            self._answer(error, self._end_after(request))
            return False
        return True

    def _committed(self, result: Outcome | Exception) -> None:
        """Answer the request that the writer has finished, and continue with the queued ones."""
        assert self._committing is not None
        self._answer(result, self._end_after(self._committing))
        while self._queued:  # a loop, since requests that are refused at once would recurse
            request = self._queued.popleft()
            if len(self._queued) == _MAX_QUEUED - 1:
                self._resume_reading()
            if self._commit(request):
                return
        self._finish_queue()

    def _finish_queue(self) -> None:
        """Continue after the last queued request was answered."""
        if self._state is COMMITTING:
            self._state = IDLE if self._incoming is None else RECEIVING
            if self._other:
                self._hand_back_if_idle()

    def _end_after(self, request: _Request) -> State | None:
        """The state that ends the connection after this response; None if it stays open."""
        ends = self._state is ENDING or self._is_stopping
        if request.keep_alive and (self._queued or not ends):
            return None
        is_refused = self._queued and isinstance(self._queued[-1], Problem)
        return LINGERING if is_refused else CLOSED

    def _answer(self, result: Outcome | Exception, end: State | None) -> None:
        """Write the whole response at once, then enter the state `end`, if any."""
        if self._transport.is_closing():
            self._leave(CLOSED)
            return
        foreign = self._committing.foreign if self._committing else 0
        headers = self._server.default_headers  # the date
        self._transport.write(self._callback.response(result, foreign, headers, keep=end is None))
        if end is not None:
            self._leave(end)

    # Connection

    def _leave(self, state: State) -> None:
        """Enter one of the last states."""
        self._state = state
        self._queued.clear()
        if state is LINGERING:
            linger(self._transport)
        elif state is CLOSED:
            self._transport.close()
        else:
            self._server.connections.discard(self)
            self._transport.resume_reading()
            self._hand_back(self._other, self._is_stopping)

    def _hand_back_if_idle(self) -> None:
        if self._other and self._state is IDLE and not self._is_unread:
            self._leave(HANDED_BACK)

    def _resume_reading(self) -> None:
        if not (self._is_unread or self._other or len(self._queued) >= _MAX_QUEUED):
            self._transport.resume_reading()

    def _close_if_idle(self) -> None:
        if self._state is IDLE:
            self._leave(CLOSED)

    def _check_time(self) -> None:
        """Refuse a request that takes too long, and close a connection that is idle too long."""
        if self._state in _ENDED:
            return
        now = self._loop.time()
        remaining = self._request_timeout
        if self._state is IDLE:
            remaining = self._last_received + _KEEP_ALIVE - now
        elif self._state is RECEIVING and self._incoming is not None:
            remaining += self._incoming.started - now
        if remaining > 0:
            self._loop.call_later(min(remaining, self._request_timeout), self._check_time)
        elif self._state is RECEIVING:
            self._refuse(TOO_SLOW)
        else:
            self._transport.abort()  # also with responses that the client has not read
