"""A TLS front before a server, since the embedded builds have no TLS: it holds the certificate, as stunnel would.

For PostgreSQL it answers the SSLRequest first (PostgreSQL 18, protocol flow, 54.2.11); without one it refuses.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@asynccontextmanager
async def tls_front(port: int, context: ssl.SSLContext, *, is_postgres: bool) -> AsyncIterator[int]:
    """Accept TLS on a port of loopback, which is yielded, and pass everything on to `port`."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task) if (task := asyncio.current_task()) else None
        with suppress(OSError, ssl.SSLError, asyncio.IncompleteReadError):
            if is_postgres:
                if await reader.readexactly(8) != _SSL_REQUEST:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.drain()
            await writer.start_tls(context)
            there, to_there = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(_pass_on(reader, to_there), _pass_on(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()
