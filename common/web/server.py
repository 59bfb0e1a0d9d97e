"""The uvicorn server of an ASGI app, with protocols that limit what they accept."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import structlog
import uvicorn

from common.web import websocket
from common.web.protocol import BoundedHttp

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: Any, host: str, port: int, stopping: asyncio.Event, *, reuse_port: bool = False, **options: Any
) -> None:
    """Serve an ASGI app until `stopping` is set, and finish the requests in progress.

    `reuse_port`: other processes may listen on this port too, and the kernel distributes the connections.
    `options`: those of `serve_on`. Raises OSError if the port is taken.
    """
    with _listener(host, port, reuse_port) as listener:
        await serve_on(listener, app, stopping, **options)


async def serve_on(
    listener: socket.socket,
    app: Any,
    stopping: asyncio.Event,
    *,
    request_timeout: float = 20.0,
    body_timeout: float = 900.0,
    http: Callable[..., asyncio.Protocol] = BoundedHttp,
    ws: Any = "none",
) -> None:
    """Serve an ASGI app on a socket until `stopping` is set.

    `request_timeout`: seconds to receive a request, `body_timeout`: at most, if it is large; see BoundedHttp.
    `http`, `ws`: factories of a connection's protocol, if not uvicorn's own.
    """
    config = uvicorn.Config(
        app,
        http=partial(http, request_timeout=request_timeout, body_timeout=body_timeout),  # type: ignore[arg-type]  # any callable works
        ws=ws,
        ws_max_size=websocket.MOST_BYTES,
        ws_per_message_deflate=False,  # compression costs more memory and time than short messages save
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,  # longer than clients keep theirs, or a request may arrive while the connection closes
    )
    server = _Server(config)
    log.info("listening", address="{}:{}".format(*listener.getsockname()[:2]))

    async def stop() -> None:
        await stopping.wait()
        server.should_exit = True

    stopper = asyncio.create_task(stop())
    try:
        await server.serve([listener])
    finally:
        stopper.cancel()


def _listener(host: str, port: int, reuse_port: bool) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    return listener
