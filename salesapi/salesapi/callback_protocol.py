"""HTTP/1.1 for `POST /callback` alone, from the socket to the report writer and back.

A web server makes a scope, a task, an event and a timer for each request, and writes each answer in two pieces. That
is most of what a callback costs; here it is a parser, the writer, and one write. The states of a connection:

    IDLE --------- a request begins -------> RECEIVING
    IDLE --------- another kind of request > GIVEN_BACK (to ConnectionProtocol)
    RECEIVING ---- it is complete ---------> COMMITTING
    COMMITTING --- answered, the last one -> IDLE, or RECEIVING if another has begun meanwhile
    COMMITTING --- nothing more is taken --> ENDING (the client sends no more, or its next request was refused)
    COMMITTING, ENDING -- the last answer -> CLOSED, or LINGERING if it is a refusal
    RECEIVING ---- refused ----------------> LINGERING
    LINGERING ---- after some seconds -----> CLOSED

In COMMITTING and ENDING one request is with the writer; those that came in after it wait, and are answered in order.
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
from salesapi.salesapi.callback import MOST_BYTES, Callback

BEGINNINGS = (b"POST /callback ", b"POST /callback?")  # of the requests that are answered here
_PATH = b"/callback"
_SIGNATURE = HEADER.lower().encode()
_MOST_WAITING = 64  # requests on a connection, sent before the first was answered
_KEEP_ALIVE = 75.0  # seconds; longer than clients keep theirs, or a request may meet a connection being closed


class State(Enum):
    """Where a connection is; see the top of this module."""

    IDLE = auto()
    RECEIVING = auto()
    COMMITTING = auto()
    ENDING = auto()
    LINGERING = auto()
    CLOSED = auto()
    GIVEN_BACK = auto()


# A global is found several times faster than a member of an Enum, and each callback needs a dozen.
IDLE, RECEIVING, COMMITTING, ENDING, LINGERING, CLOSED, GIVEN_BACK = State
_TAKES_IN = (IDLE, RECEIVING, COMMITTING)
_OVER = (LINGERING, CLOSED, GIVEN_BACK)


class _Request:
    """A request that comes in, or has come in."""

    url = b""
    signature = b""
    keep_alive = True  # the client wants the connection kept after the answer
    foreign = 0  # reports that name no message of ours

    def __init__(self, began: float) -> None:
        self.began = began  # on the loop's clock
        self.body = bytearray()


class CallbackProtocol(asyncio.Protocol):
    """One connection; its requests are answered in their order.

    `give_back` is called with the beginning of a request that is not plainly a callback, and whether the server ends.
    """

    def __init__(
        self,
        callback: Callback,
        server_state: ServerState,
        request_timeout: float,
        give_back: Callable[[bytes, bool], None],
    ) -> None:
        self._callback = callback
        self._server = server_state
        self._request_timeout = request_timeout
        self._give_back = give_back
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._state = IDLE
        self._last_heard = self._loop.time()
        self._incoming: _Request | None = None
        self._received = 0  # bytes of it
        self._committing: _Request | None = None  # with the writer, or the last that was
        self._waiting: deque[_Request | Problem] = deque()  # a Problem refuses, as the last, what came in
        self._other = b""  # beginning of a request that is not plainly a callback
        self._is_unread = False  # the client does not read its answers
        self._is_stopping = False  # the server ends: the next answer is the last

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # it asks them for shutdown() only
        self._loop.call_later(min(_KEEP_ALIVE, self._request_timeout), self._check_time)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._leave(CLOSED)

    def data_received(self, data: bytes) -> None:
        self._last_heard = self._loop.time()
        if self._state not in _TAKES_IN:
            return
        if self._incoming is None and (self._other or not data.startswith(BEGINNINGS)):
            self._other += data
            self._transport.pause_reading()  # until all before it is answered
            self._give_back_if_idle()
            return
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(NOT_HTTP)
        if self._incoming is not None and self._received > MOST_HEAD:
            if not self._incoming.body:
                self._refuse(HEAD_TOO_LARGE)
            elif self._received > MOST_BYTES + MOST_HEAD:
                self._refuse(too_large(MOST_BYTES))

    def eof_received(self) -> bool:
        """Whoever sends no more may still wait for answers."""
        self._take_no_more()
        return self._state is ENDING

    def pause_writing(self) -> None:
        """Who does not read its answers is not asked for more."""
        self._is_unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._is_unread = False
        self._resume_reading()
        self._give_back_if_idle()

    # uvicorn

    def shutdown(self) -> None:
        """The server ends: what has come in is answered, and what is on its way, as the last."""
        self._is_stopping = True
        self._loop.call_later(SHUTDOWN_GRACE, self._close_if_idle)

    # httptools

    def on_message_begin(self) -> None:
        self._incoming = _Request(self._last_heard)
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
            return  # the parser raises this next, and it is refused
        if request.url.partition(b"?")[0] != _PATH or self._parser.get_method() != b"POST":
            self._take_no_more()  # something else, in one piece with a callback: rare enough to be asked for once more
        elif len(request.body) > MOST_BYTES:
            self._refuse(too_large(MOST_BYTES))
        else:
            request.keep_alive = self._parser.should_keep_alive()
            self._take(request)

    # The requests.

    def _take(self, request: _Request | Problem) -> None:
        """Answer this, in its turn."""
        if self._state is COMMITTING:
            self._waiting.append(request)
            if len(self._waiting) == _MOST_WAITING:
                self._transport.pause_reading()
        elif self._state in _TAKES_IN:
            self._state = COMMITTING
            if not self._commit(request):
                self._rest()

    def _refuse(self, problem: Problem) -> None:
        """Answer this in its turn, as the last."""
        self._take(problem)
        self._take_no_more()

    def _take_no_more(self) -> None:
        """Take in nothing more; what has come in is answered."""
        if self._state is COMMITTING:
            self._state = ENDING
        elif self._state in _TAKES_IN:
            self._leave(CLOSED)

    def _commit(self, request: _Request | Problem) -> bool:
        """Hand the reports to the writer; False if they are answered already, with why they are not committed."""
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
        """The reports are committed, or could not be: answer, and go on to the requests that wait."""
        assert self._committing is not None
        self._answer(result, self._end_after(self._committing))
        while self._waiting:  # those that are refused at once must not pile up on the stack
            request = self._waiting.popleft()
            if len(self._waiting) == _MOST_WAITING - 1:
                self._resume_reading()
            if self._commit(request):
                return
        self._rest()

    def _rest(self) -> None:
        """All that has come in is answered."""
        if self._state is COMMITTING:
            self._state = IDLE if self._incoming is None else RECEIVING
            if self._other:
                self._give_back_if_idle()

    def _end_after(self, request: _Request) -> State | None:
        """How the connection ends after the answer to this request; None if it does not."""
        ends = self._state is ENDING or self._is_stopping
        if request.keep_alive and (self._waiting or not ends):
            return None
        is_refused = self._waiting and isinstance(self._waiting[-1], Problem)
        return LINGERING if is_refused else CLOSED

    def _answer(self, result: Outcome | Exception, end: State | None) -> None:
        """Write the answer to the request that was with the writer, all of it at once; then end as told."""
        if self._transport.is_closing():
            self._leave(CLOSED)
            return
        foreign = self._committing.foreign if self._committing else 0
        headers = self._server.default_headers  # the date
        self._transport.write(self._callback.answer(result, foreign, headers, keep=end is None))
        if end is not None:
            self._leave(end)

    # The connection.

    def _leave(self, state: State) -> None:
        """Enter one of the last states."""
        self._state = state
        self._waiting.clear()
        if state is LINGERING:
            linger(self._transport)
        elif state is CLOSED:
            self._transport.close()
        else:
            self._server.connections.discard(self)
            self._transport.resume_reading()
            self._give_back(self._other, self._is_stopping)

    def _give_back_if_idle(self) -> None:
        if self._other and self._state is IDLE and not self._is_unread:
            self._leave(GIVEN_BACK)

    def _resume_reading(self) -> None:
        if not (self._is_unread or self._other or len(self._waiting) >= _MOST_WAITING):
            self._transport.resume_reading()

    def _close_if_idle(self) -> None:
        if self._state is IDLE:
            self._leave(CLOSED)

    def _check_time(self) -> None:
        """Has the client had its time: for a request that is coming in, or to send another?"""
        if self._state in _OVER:
            return
        now = self._loop.time()
        rest = self._request_timeout
        if self._state is IDLE:
            rest = self._last_heard + _KEEP_ALIVE - now
        elif self._state is RECEIVING and self._incoming is not None:
            rest += self._incoming.began - now
        if rest > 0:
            self._loop.call_later(min(rest, self._request_timeout), self._check_time)
        elif self._state is RECEIVING:
            self._refuse(TOO_SLOW)
        else:
            self._transport.abort()  # also if there are answers that it has not read
