"""Raw HTTP, for requests that no client library would send."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from common.settings import host_and_port


class RawConnection:
    """A TCP connection on which a test writes bytes and reads HTTP responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def pause_reading(self) -> None:
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_reading(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, Any, dict[str, str]]:
        """Read the next response: status, body (JSON decoded), headers."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 120)).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        is_json = "json" in headers.get("content-type", "")
        return int(status.split()[1]), msgspec.json.decode(body) if is_json else body, headers

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(1), 120) == b""


@asynccontextmanager
async def connect(url: str, receive_buffer: int | None = None) -> AsyncIterator[RawConnection]:
    """Connect to the service at this URL; `receive_buffer`: size of the socket's receive buffer in bytes."""
    client = socket.socket()
    if receive_buffer is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, host_and_port(url))
    reader, writer = await asyncio.open_connection(sock=client, limit=64 * 1024 * 1024)
    yield RawConnection(reader, writer)
    writer.close()


class Answer(NamedTuple):
    """A response: status, JSON and headers."""

    status: int
    body: Any
    headers: dict[str, str]


async def send(url: str, head: bytes, body: bytes | Iterable[bytes] = b"") -> Answer:
    """Send a request with this head; an iterable body is sent in chunks until there is a response."""
    async with connect(url) as connection:
        length = b"Content-Length: %d" % len(body) if isinstance(body, bytes) else b"Transfer-Encoding: chunked"
        more = [] if b"Content-Length" in head else [length]
        connection.send(b"\r\n".join([head, b"Host: localhost", *more, b"", b""]))
        answer = asyncio.create_task(connection.answer())
        try:
            if isinstance(body, bytes):
                connection.send(body)
            else:
                for piece in body:
                    if answer.done():
                        break
                    connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))
                    await connection.writer.drain()
                else:
                    connection.send(b"0\r\n\r\n")
            await connection.writer.drain()
        except ConnectionError:
            pass  # the server has stopped reading; its response can still be read
        return Answer(*await answer)
