"""What the web services have in common: how they are served, and how they tell whether they are up and ready."""

import asyncio
import gc
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import uvicorn

from common.event_loop import new_event_loop
from common.web import websocket
from common.web.protocol import BoundedHttp

T = TypeVar("T")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's main coroutine on an event loop of its own.

    What has been imported stays: the garbage collector need not look at it. And thousands of requests under way are no
    garbage: it may look less often.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main)


class _Server(uvicorn.Server):
    """uvicorn that returns when it is told to stop: its own dies of the signal, with what comes after it undone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


async def serve(
    app: Any,
    host: str,
    port: int,
    *,
    request_timeout: float = 20.0,
    reuse_port: bool = False,
    http: Callable[..., asyncio.Protocol] = BoundedHttp,
    ws: Any = "none",
) -> None:
    """Serve an ASGI app until SIGTERM or Ctrl-C; requests under way are answered first.

    `request_timeout`: seconds that a request may take to come in, see BoundedHttp.
    `reuse_port`: other processes may listen there too, and the kernel shares the connections out among them.
    `http`, `ws`: what makes the protocol of a connection, where it is not uvicorn's own.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=partial(http, request_timeout=request_timeout),  # type: ignore[arg-type]  # it may be any callable
        ws=ws,
        ws_max_size=websocket.MOST_BYTES,
        ws_per_message_deflate=False,  # it costs each client more memory and time than our short messages are worth
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,  # longer than clients keep theirs, or a request may meet a connection being closed
    )
    await _Server(config).serve([_shared_socket(host, port)] if reuse_port else None)


def _shared_socket(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    shared = socket.socket(family, kind)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    return shared
