"""Clients that keep a connection and send little or nothing, and WebSockets that send too much."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from uuid import UUID

import psutil
import pytest
from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from local.launcher import System
from tests.support.client import Client, csv_of
from tests.support.multipart import form
from tests.support.polling import until
from tests.support.raw_http import RawConnection, connect

_HEAD = b"POST /create HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def _status(url: str, first: bytes, drip: bytes = b"") -> int | None:
    """The status that who sends `first`, and then `drip` each half second, is answered; None if it is only closed."""
    async with connect(url) as connection:
        connection.send(first)
        answer = asyncio.create_task(connection.answer())
        while not answer.done():
            await asyncio.wait([answer], timeout=0.5)
            if drip and not answer.done():
                connection.send(drip)
        try:
            return answer.result()[0]
        except asyncio.IncompleteReadError:
            return None


async def _upload_slowly(client: Client, workspace: UUID) -> int:
    """An upload at 16 kB a second that takes longer than REQUEST_TIMEOUT."""
    body = b"".join(form([csv_of(3_200)], workspace_id=str(workspace).encode()))
    async with connect(client.salesapi) as connection:
        connection.send(_HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 8_000):
            connection.send(body[start : start + 8_000])
            await asyncio.sleep(0.5)
        return (await connection.answer())[0]


async def _read_after(
    client: Client, workspace: UUID, pause: Callable[[RawConnection], Awaitable[object]]
) -> bytes | None:
    """The end of a large answer, to who begins to read it only after a pause; None if it was cut off."""
    bulksms_id = await client.created(workspace, csv_of(100_000))
    async with connect(client.salesapi, receive_buffer=4096) as connection:
        connection.send(b"GET /bulksms/%s/results.csv HTTP/1.1\r\nHost: localhost\r\n\r\n" % bulksms_id.encode())
        await connection.writer.drain()
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.pause_reading()
        await pause(connection)
        connection.resume_reading()
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            return await connection.reader.readuntil(b"\r\n0\r\n\r\n")
    return None


async def _has_closed(system: System, connection: RawConnection) -> bool:
    """Whether salesapi has closed its end."""
    ours = connection.writer.get_extra_info("sockname")
    server = psutil.Process(system.processes["salesapi"].pid)
    return not any(one.raddr == ours for one in await asyncio.to_thread(server.net_connections, "tcp"))


async def test_who_sends_too_slowly_is_ended_and_who_sends_steadily_is_not(
    system: System, client: Client, workspace: UUID
) -> None:
    began = time.monotonic()
    first = b"".join(form([], end=b""))
    slow = [
        _status(client.salesapi, _CHUNKED + b"%x\r\n%s\r\n" % (len(first), first), b"1\r\nx\r\n"),
        _status(client.salesapi, b"GET /bulksms HTTP/1.1\r\n", b"X: y\r\n"),  # a head that goes on and on
        _status(client.salesapi, b"POST /callback HTTP/1.1\r\nContent-Length: 100\r\n\r\n{", b" "),
        _status(client.salesapi, b"POST /call"),
        _status(client.webapi, b"GET /health HTTP/1.1\r\n", b"X: y\r\n"),
        _status(client.webapi, b""),
        _status(client.salesapi, b""),
    ]
    *ended, steady, late, soon = await asyncio.gather(
        *slow,
        _upload_slowly(client, workspace),
        _read_after(client, workspace, lambda connection: until(lambda: _has_closed(system, connection))),
        _read_after(client, workspace, lambda connection: asyncio.sleep(1)),
    )
    assert ended == [408, 408, 408, 408, 408, None, None]
    assert steady == 201
    assert late is None
    assert isinstance(soon, bytes)
    assert b'"Contact 99999"' in soon
    assert time.monotonic() - began > system.settings.request_timeout


async def test_who_is_told_no_before_the_end_of_an_upload_can_read_it(client: Client) -> None:
    """413 reaches a client that goes on sending, and does not read before it has sent all it wants."""
    async with connect(client.salesapi) as connection:
        connection.send(_HEAD + b"Content-Length: 1000000000\r\n\r\n")
        for _ in range(20):
            connection.send(bytes(100_000))
        await connection.writer.drain()
        assert (await connection.answer())[0] == 413


def _url(client: Client) -> str:
    return f"{client.webapi.replace('http', 'ws')}/ws"


@pytest.mark.parametrize(
    ("messages", "code"),
    [(["{}"] * 50, 1008), (["x" * 100_000], 1009), ([["{", *["x"] * 100]], 1009)],
    ids=["many", "large", "in many fragments"],
)
async def test_a_websocket_that_sends_too_much_is_closed(
    client: Client, messages: list[str | list[str]], code: int
) -> None:
    async with connect_websocket(_url(client)) as socket:
        with suppress(ConnectionClosed):  # in the midst of it
            for message in messages:
                await socket.send(message)
        with suppress(ConnectionClosed):
            while await asyncio.wait_for(socket.recv(), 60):
                pass
        assert socket.close_code == code


@pytest.mark.parametrize(
    "message", [b'{"x":' + b"[" * 50_000, b'{"workspace_id":"\xff"}', b'{"workspace_id":1e999}', b"\x00", b"[]"]
)
async def test_a_websocket_message_that_is_none_is_told_so(client: Client, message: bytes) -> None:
    async with connect_websocket(_url(client)) as socket:
        await socket.send(message)
        assert "send {" in str(await asyncio.wait_for(socket.recv(), 60))


async def _upgrade(connection: RawConnection, more: bytes = b"") -> None:
    version = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    connection.send(b"GET /ws HTTP/1.1\r\nHost: localhost\r\n" + upgrade + version + more + b"\r\n")


async def test_a_handshake_that_is_none_is_answered(client: Client) -> None:
    async with connect(client.webapi) as connection:
        await _upgrade(connection, b"Content-Length: 5\r\n")
        assert (await connection.answer())[0] == 400
        assert await connection.closed()


async def test_pings_of_a_client_that_does_not_read_are_not_queued(client: Client) -> None:
    """Of a flood of pings all but those that there was room for are skipped, and the last one is answered."""
    async with connect(client.webapi, receive_buffer=65_536) as connection:
        await _upgrade(connection)
        assert (await connection.answer())[0] == 101
        connection.pause_reading()
        ping = Frame(Opcode.PING, b"p" * 125).serialize(mask=True)
        for _ in range(200):
            connection.send(ping * 1_000)
            await connection.writer.drain()
        connection.send(Frame(Opcode.PING, b"last").serialize(mask=True))
        connection.resume_reading()
        received = b""
        while not received.endswith(b"last"):
            piece = await asyncio.wait_for(connection.reader.read(1 << 20), 60)
            assert piece
            received += piece
        assert len(received) < 20_000_000
