"""The lane of callbacks: HTTP/1.1 for `POST /callback` alone, from the socket to the writer and back.

A web server makes a scope, a task, an event and a timer for each request, and writes each answer in two pieces. That
is most of what a callback costs, so the connections of carriers are served here: a parser, the writer, one write.
A connection that asks for anything else is handed to uvicorn, and does not notice.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.server import ServerState

from bulksms.report_writer import Outcome, ReportWriter
from common.auth.signatures import HEADER
from common.web.problems import Problem
from common.web.protocol import FAREWELL, HEAD_TOO_LARGE, MOST_HEAD, NOT_HTTP, TOO_SLOW, BoundedHttp, linger, raw
from common.web.requests import too_large
from salesapi.salesapi.callback import MOST_BYTES, decode, encode, problem_of
from salesapi.salesapi.callback_signatures import Signatures

_PATH = b"/callback"
_BEGINNINGS = (b"POST /callback ", b"POST /callback?")
_LONGEST_BEGINNING = max(map(len, _BEGINNINGS))
_SIGNATURE = HEADER.lower().encode()
_MOST_WAITING = 64  # requests on a connection, sent before the first was answered
_IDLE = 75.0  # seconds; longer than clients keep theirs, or a request may meet a connection being closed


def protocol_factory(
    writer: ReportWriter, signatures: Signatures, on_problem: Callable[[int], None] = lambda status: None
) -> Callable[..., asyncio.Protocol]:
    """What uvicorn makes a connection's protocol with: a lane to `writer`, and the ordinary one for all else.

    `on_problem`: told the status of each answer that is no success.
    """

    def make(server_state: ServerState, request_timeout: float, **others: Any) -> asyncio.Protocol:
        def otherwise() -> BoundedHttp:
            return BoundedHttp(server_state=server_state, request_timeout=request_timeout, **others)

        return CallbackLane(writer, signatures, on_problem, server_state, request_timeout, otherwise)

    return make


# A request that has come in: its body and signature, and whether the connection is kept after the answer; or why it
# is refused.
_Request = tuple[bytearray, bytes, bool] | Problem


class CallbackLane(asyncio.Protocol):
    """One connection; its requests are answered in their order."""

    def __init__(
        self,
        writer: ReportWriter,
        signatures: Signatures,
        on_problem: Callable[[int], None],
        server_state: ServerState,
        request_timeout: float,
        otherwise: Callable[[], BoundedHttp],
    ) -> None:
        self._writer = writer
        self._signatures = signatures
        self._on_problem = on_problem
        self._server = server_state
        self._request_timeout = request_timeout
        self._otherwise = otherwise
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()  # the request that comes in
        self._used = self._began + request_timeout - _IDLE  # last heard of; who has yet to ask has only so much time
        self._transport: Any = None
        self._beginning = b""  # of a request, too short to tell what is asked for
        self._between = True  # no request has begun
        self._received = 0  # bytes of the request that is coming in
        self._url = b""
        self._body = bytearray()
        self._signature = b""
        self._waiting: deque[_Request] = deque()
        self._busy = False  # a request is with the writer
        self._keep = True  # the connection is kept after its answer
        self._foreign = 0  # reports in it that name no message of ours
        self._ending = False  # nothing more is taken in
        self._last = False  # the next answer is the last
        self._unread = False  # the client does not read its answers
        self._refused = False  # what came was none of what is taken here

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # it asks them for shutdown() only
        self._loop.call_later(min(_IDLE, self._request_timeout), self._check)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._used = self._loop.time()
        if self._ending:
            return
        if self._between:
            if not self._beginning:
                self._began = self._used
            data = self._beginning + data
            if not data.startswith(_BEGINNINGS):
                self._beginning = data
                if len(data) >= _LONGEST_BEGINNING or not any(known.startswith(data) for known in _BEGINNINGS):
                    self._hand_over()
                return
            self._beginning = b""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(NOT_HTTP)
        if self._received > MOST_HEAD:
            if not self._body:
                self._refuse(HEAD_TOO_LARGE)
            elif self._received > MOST_BYTES + MOST_HEAD:
                self._refuse(too_large(MOST_BYTES))

    def eof_received(self) -> bool:
        """Whoever sends no more may still wait for answers."""
        self._ending = True
        return self._busy

    def pause_writing(self) -> None:
        """Who does not read its answers is not asked for more."""
        self._unread = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._unread = False
        if len(self._waiting) < _MOST_WAITING:
            self._transport.resume_reading()

    # uvicorn

    def shutdown(self) -> None:
        """The server ends: what has come in is answered, and what is on its way, as the last."""
        self._last = True
        self._loop.call_later(FAREWELL, self._close_if_idle)

    # httptools

    def on_message_begin(self) -> None:
        self._between = False
        self._began = self._used
        self._url = b""
        self._body = bytearray()
        self._signature = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == _SIGNATURE:
            self._signature = value
        elif name == b"expect" and value.lower() == b"100-continue" and not self._busy:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._received = 0
        self._between = True
        if self._parser.should_upgrade():
            return  # the parser raises this next, and it is refused
        if self._url.partition(b"?")[0] != _PATH or self._parser.get_method() != b"POST":
            self._end_here()  # something else, in one piece with a callback: rare enough to be asked for once more
        elif len(self._body) > MOST_BYTES:
            self._refuse(too_large(MOST_BYTES))
        else:
            self._take((self._body, self._signature, self._parser.should_keep_alive()))

    # The life of a request.

    def _take(self, request: _Request) -> None:
        if self._ending:
            return
        if not self._busy:
            self._begin(request)
            return
        self._waiting.append(request)
        if len(self._waiting) == _MOST_WAITING:
            self._transport.pause_reading()

    def _begin(self, request: _Request) -> None:
        """Hand the reports to the writer, or answer at once why not."""
        if isinstance(request, Problem):
            self._keep = False
            self._finish(request)
            return
        self._busy = True
        body, signature, self._keep = request
        try:
            self._signatures.check(signature, body)
            steps, self._foreign = decode(body)
            self._writer.submit(steps, self._end)
        except Exception as error:
            self._finish(error)

    def _end(self, result: Outcome | Exception) -> None:
        """The reports are committed, or were not: answer, and go on to the requests that wait."""
        self._finish(result)
        while self._waiting and not self._busy:  # those that are refused at once must not pile up on the stack
            if len(self._waiting) == _MOST_WAITING and not self._unread:
                self._transport.resume_reading()
            self._begin(self._waiting.popleft())

    def _finish(self, result: Outcome | Exception) -> None:
        """Answer the request."""
        self._busy = False
        if self._transport.is_closing():
            self._waiting.clear()
            return
        keep = self._keep and bool(self._waiting or not (self._ending or self._last))
        if isinstance(result, Exception):
            problem = problem_of(result)
            self._on_problem(problem.status)
            self._transport.write(raw(problem, self._server.default_headers, keep=keep))
        else:
            self._answer(encode(result, self._foreign), keep)
        if not keep:
            self._waiting.clear()
            self._leave()

    def _answer(self, body: bytes, keep: bool) -> None:
        """Write the answer 200, all of it at once."""
        head = _OK
        for name, value in self._server.default_headers:  # the date
            head += b"%s: %s\r\n" % (name, value)
        end = b"" if keep else b"connection: close\r\n"
        self._transport.write(b"%s%scontent-length: %d\r\n\r\n%s" % (head, end, len(body), body))

    def _refuse(self, problem: Problem) -> None:
        """Answer this in its turn, and close."""
        self._refused = True
        self._take(problem)
        self._ending = True

    # The connection.

    def _hand_over(self) -> None:
        """It asks for something else: from now on it is uvicorn's."""
        if self._busy:
            self._end_here()
            return
        data, self._beginning = self._beginning, b""
        self._server.connections.discard(self)
        protocol = self._otherwise()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def _end_here(self) -> None:
        """Take in nothing more; what has come in is answered."""
        self._ending = True
        if not self._busy:
            self._transport.close()

    def _close_if_idle(self) -> None:
        if not self._busy and self._between and not self._beginning:
            self._transport.close()

    def _leave(self) -> None:
        if self._refused:
            linger(self._transport)
        else:
            self._transport.close()

    def _check(self) -> None:
        """Has the client had its time: for a request that is coming in, or to send another?"""
        if self._transport.is_closing() or self._transport.get_protocol() is not self:
            return
        now = self._loop.time()
        if self._busy or self._ending:
            rest = self._request_timeout
        elif self._beginning or not self._between:
            rest = self._began + self._request_timeout - now
        else:
            rest = self._used + _IDLE - now
        if rest > 0:
            self._loop.call_later(min(rest, self._request_timeout), self._check)
        elif self._between and not self._beginning:
            self._transport.abort()  # also if there are answers that it has not read
        else:
            self._refuse(TOO_SLOW)


_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
