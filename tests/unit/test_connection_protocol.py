"""Which protocol gets a connection, at the moments that no client can time: while a callback is being committed."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from uvicorn.server import ServerState

from bulksms.apply_reports import DeliveryReport
from bulksms.report_writer import OnDone, Outcome
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_protocol import CallbackProtocol
from salesapi.salesapi.callback_signatures import Signatures
from salesapi.salesapi.connection_protocol import ConnectionProtocol, is_callback

REPORT = b'{"message_id":"no-id-of-ours","status":"sent","timestamp":"2026-01-01T00:00:00Z"}'
POST = b"POST /callback HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(REPORT), REPORT)
GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


class SlowWriter:
    """Commits when the test says so."""

    def __init__(self) -> None:
        self._waiting: list[OnDone] = []

    def submit(self, reports: Sequence[DeliveryReport], on_done: OnDone) -> None:
        self._waiting.append(on_done)

    def write(self) -> None:
        """Here for `Callback`, which asks for it."""

    def commit(self) -> None:
        self._waiting.pop(0)(Outcome(0, 0, 0))


class Http(asyncio.Protocol):
    """In place of uvicorn's protocol: keeps what it is given."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data

    def shutdown(self) -> None:
        self.received += b"(shutdown)"


class Socket(asyncio.Transport):
    """Keeps what is written; says whether it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_read = True
        self.is_closed = False
        self.protocol: Any = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


class Connection:
    """A connection to salesapi that has just been made."""

    def __init__(self) -> None:
        self.writer, self.http, self.socket = SlowWriter(), Http(), Socket()
        writer: Any = self.writer
        http: Any = self.http
        protocol = ConnectionProtocol(Callback(writer, Signatures([])), lambda: http, ServerState(), 5.0)
        self.socket.set_protocol(protocol)
        protocol.connection_made(self.socket)

    def send(self, data: bytes) -> None:
        assert self.socket.is_read
        self.socket.protocol.data_received(data)


@pytest.mark.parametrize(
    ("beginning", "expected"),
    [
        (b"", None), (b"POST /call", None), (b"POST /callback", None), (b"POST /callback?x", True),
        (b"POST /callback HTTP", True), (b"POST /callbacks", False), (b"GET", False), (b"POST /create", False),
    ],
)  # fmt: skip
def test_a_callback_is_recognised_by_its_first_bytes(beginning: bytes, expected: bool | None) -> None:
    assert is_callback(beginning) is expected


async def test_a_request_behind_a_callback_is_answered_after_it() -> None:
    connection = Connection()
    connection.send(POST)
    connection.send(GET)
    assert not connection.socket.is_read, "it waits for the answer before it"
    assert connection.http.received == b""
    connection.writer.commit()
    assert connection.socket.written.startswith(b"HTTP/1.1 200 OK")
    assert connection.socket.protocol is connection.http
    assert connection.http.received == GET
    assert connection.socket.is_read


async def test_a_fragmented_callback_behind_another_is_recognised() -> None:
    connection = Connection()
    connection.send(POST)
    connection.send(POST[:3])
    connection.writer.commit()
    connection.send(POST[3:])
    assert isinstance(connection.socket.protocol, CallbackProtocol)
    connection.writer.commit()
    assert connection.socket.written.count(b"HTTP/1.1 200 OK") == 2


async def test_shutdown_reaches_the_current_protocol_of_a_connection() -> None:
    connection = Connection()
    connection.socket.protocol.shutdown()
    connection.send(GET)
    assert connection.http.received == b"(shutdown)" + GET
    connection = Connection()
    connection.send(POST)
    connection.socket.protocol.shutdown()
    connection.writer.commit()
    assert b"connection: close" in connection.socket.written
    assert connection.socket.is_closed
