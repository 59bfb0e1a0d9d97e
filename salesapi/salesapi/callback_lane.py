"""The lane of callbacks: HTTP/1.1 for `POST /callback` alone, from the socket to the writer and back.

A web server makes a scope, a task, an event and a timer for each request, and writes each answer in two pieces. That
is most of what a callback costs, so the connections of carriers are served here: a parser, the writer, one write.
A connection that asks for anything else is handed to uvicorn, and does not notice.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bulksms.report_writer import Outcome, ReportWriter
from common.problems import Problem
from common.signatures import HEADER
from salesapi.salesapi.callback import MOST_BYTES, decode, encode, problem_of
from salesapi.salesapi.signed import Signatures

_PATH = b"/callback"
_BEGINNINGS = (b"POST /callback ", b"POST /callback?")
_LONGEST_BEGINNING = max(map(len, _BEGINNINGS))
_SIGNATURE = HEADER.lower().encode()
_MOST_HEADERS = 64 * 1024  # bytes
_MOST_WAITING = 64  # requests on a connection, sent before the first was answered
_IDLE = 75.0  # seconds; longer than clients keep theirs, or a request may meet a connection being closed


def protocol_factory(writer: ReportWriter, signatures: Signatures) -> Callable[..., asyncio.Protocol]:
    """What uvicorn makes a connection's protocol with: a lane to `writer`, and its own protocol for all else."""

    def make(server_state: ServerState, **others: Any) -> asyncio.Protocol:
        def otherwise() -> HttpToolsProtocol:
            return HttpToolsProtocol(server_state=server_state, **others)

        return CallbackLane(writer, signatures, server_state, otherwise)

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
        server_state: ServerState,
        otherwise: Callable[[], HttpToolsProtocol],
    ) -> None:
        self._writer = writer
        self._signatures = signatures
        self._server = server_state
        self._otherwise = otherwise
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._used = self._loop.time()
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

    # asyncio.Protocol

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # it asks them for shutdown() only
        self._loop.call_later(_IDLE, self._close_if_idle)

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        self._used = self._loop.time()
        if self._ending:
            return
        if self._between:
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
            self._refuse(Problem(400, "HTTP not understood", "this is no request of HTTP/1.1"))
        if self._received > MOST_BYTES + _MOST_HEADERS:
            self._refuse(_TOO_LARGE)

    def eof_received(self) -> bool:
        """Whoever sends no more may still wait for answers."""
        self._ending = True
        return self._busy

    # uvicorn

    def shutdown(self) -> None:
        """Take in nothing more; what has come in is answered."""
        self._ending = True
        if not self._busy:
            self._transport.close()

    # httptools

    def on_message_begin(self) -> None:
        self._between = False
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
        if len(self._body) > MOST_BYTES:
            self._refuse(_TOO_LARGE)
        elif self._url.partition(b"?")[0] != _PATH or self._parser.get_method() != b"POST":
            self.shutdown()  # something else, in one piece with a callback: rare enough to be asked for once more
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
        if isinstance(request, Problem):
            self._keep = False
            self._end(request)
            return
        self._busy = True
        body, signature, self._keep = request
        try:
            self._signatures.check(signature, body)
            steps, self._foreign = decode(body)
            self._writer.submit(steps, self._end)
        except Exception as error:
            self._end(error)

    def _end(self, result: Outcome | Exception) -> None:
        """The reports are committed, or were not: answer, and go on to the next request."""
        self._busy = False
        if self._transport.is_closing():
            return
        keep = self._keep and bool(self._waiting or not self._ending)
        if isinstance(result, Exception):
            self._answer_problem(problem_of(result), keep)
        else:
            self._answer(200, b"content-type: application/json\r\n", encode(result, self._foreign), keep)
        if not keep:
            self._transport.close()
        elif self._waiting:
            if len(self._waiting) == _MOST_WAITING:
                self._transport.resume_reading()
            self._begin(self._waiting.popleft())

    def _answer_problem(self, problem: Problem, keep: bool) -> None:
        response = problem.response()
        headers = b"".join(b"%s: %s\r\n" % header for header in response.raw_headers if header[0] != b"content-length")
        self._answer(response.status_code, headers, bytes(response.body), keep)

    def _answer(self, status: int, headers: bytes, body: bytes, keep: bool) -> None:
        """Write an answer, all of it at once."""
        head = b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode()) if status != 200 else _OK
        for name, value in self._server.default_headers:  # the date
            head += b"%s: %s\r\n" % (name, value)
        end = b"" if keep else b"connection: close\r\n"
        self._transport.write(b"%s%s%scontent-length: %d\r\n\r\n%s" % (head, headers, end, len(body), body))

    def _refuse(self, problem: Problem) -> None:
        """Answer this in its turn, and close."""
        self._take(problem)
        self._ending = True

    # The connection.

    def _hand_over(self) -> None:
        """It asks for something else: from now on it is uvicorn's."""
        if self._busy:
            self.shutdown()
            return
        data, self._beginning = self._beginning, b""
        self._server.connections.discard(self)
        protocol = self._otherwise()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(data)

    def _close_if_idle(self) -> None:
        if self._transport.is_closing() or self._transport.get_protocol() is not self:
            return
        idle = 0.0 if self._busy else self._loop.time() - self._used
        if idle >= _IDLE:
            self._transport.close()
        else:
            self._loop.call_later(_IDLE - idle, self._close_if_idle)


_TOO_LARGE = Problem(413, "Body too large", f"this takes at most {MOST_BYTES} bytes")
_OK = b"HTTP/1.1 200 OK\r\n"
