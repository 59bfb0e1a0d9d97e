"""What the web services have in common: how they are served, and how they tell whether they are up and ready."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.problems import Problem
from common.waiting import wait_for

T = TypeVar("T")

Check = Callable[[], Awaitable[object]]


class Part(NamedTuple):
    """Something that a service needs: where it should be, and what raises if it does not answer."""

    address: str
    check: Check


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a service's main coroutine on uvloop.

    What has been imported stays: the garbage collector need not look at it. And thousands of requests under way are no
    garbage: it may look less often.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def serve(
    app: Any, host: str, port: int, *, reuse_port: bool = False, http: Any = "httptools", ws: Any = "none"
) -> None:
    """Serve an ASGI app until SIGTERM or Ctrl-C; requests under way are answered first.

    `reuse_port`: other processes may listen there too, and the kernel shares the connections out among them.
    `http`, `ws`: what makes the protocol of a connection, where it is not uvicorn's own.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,
        ws=ws,
        ws_per_message_deflate=False,  # it costs each client more memory and time than our short messages are worth
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=75,  # longer than clients keep theirs, or a request may meet a connection being closed
    )
    await uvicorn.Server(config).serve([_shared_socket(host, port)] if reuse_port else None)


def _shared_socket(host: str, port: int) -> socket.socket:
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    shared = socket.socket(family, kind)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(address)
    return shared


def json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON; Decimals become strings, times RFC 3339."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


async def read(request: Request, limit: int) -> bytearray:
    """The request's body, up to `limit` bytes. Raises Problem 413."""
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > limit:
            raise Problem(413, "Body too large", f"this takes at most {limit} bytes")
    return received


async def body(request: Request, type: type[T], limit: int = 64 * 1024) -> T:
    """The request's JSON body as `type`. Raises Problem 400 (what is wrong, where) or 413."""
    try:
        return msgspec.json.decode(await read(request, limit), type=type)
    except msgspec.MsgspecError as error:
        raise Problem(400, "Body not understood", f"{error}; send a JSON object as the README shows") from None


def watch(parts: Mapping[str, Part]) -> list[asyncio.Task[None]]:
    """For each part that is not there at the start: say so in a line, wait for it, and say when it is."""
    return [asyncio.create_task(wait_for(name, part.address, part.check)) for name, part in parts.items()]


def health_routes(parts: Mapping[str, Part]) -> list[Route]:
    """`/health`: the process is up. `/ready`: each part that it needs answers within 2 s."""

    async def health(request: Request) -> Response:
        return json({"status": "up"})

    async def ready(request: Request) -> Response:
        results = await asyncio.gather(*(_probe(part.check) for part in parts.values()))
        states = dict(zip(parts, results, strict=True))
        missing = [name for name, state in states.items() if state != "ok"]
        if missing:
            raise Problem(503, "Not ready", f"waiting for {', '.join(missing)}", parts=states)
        return json({"status": "ready", "parts": states})

    return [Route("/health", health), Route("/ready", ready)]


async def _probe(check: Check) -> str:
    try:
        async with asyncio.timeout(2):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
