"""What the web services have in common: how they are served, and how they tell whether they are up and ready."""

import asyncio
import gc
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import uvicorn
import uvloop
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common import bounded_websocket
from common.bounded_http import BoundedHttp
from common.problems import Problem
from common.waiting import wait_for

T = TypeVar("T")

# What msgspec raises for bytes that are no JSON, no UTF-8, nested without end, or not of the type.
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# What people's tools say of a JSON body; curl's -d says that every body is a form.
_JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain")

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
        ws_max_size=bounded_websocket.MOST_BYTES,
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


def json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON; Decimals become strings, times RFC 3339."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def not_json(error: Exception) -> str:
    """What is wrong with a body, and where, by one of NOT_JSON."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def check_body(request: Request, limit: int) -> None:
    """Refuse at once a body that says of itself that it is too large (Problem 413), or compressed (Problem 415)."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(
            415,
            "Encoding not supported",
            "send the body as it is, not compressed",
            headers={"Accept-Encoding": "identity"},
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Problem:
    """413: the body has more bytes than are taken."""
    return Problem(413, "Body too large", f"this takes at most {limit} bytes")


async def read(request: Request, limit: int) -> bytearray:
    """The request's body, up to `limit` bytes. Raises Problem 413, or 415 if it is compressed."""
    check_body(request, limit)
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > limit:
            raise too_large(limit)
    return received


async def body(request: Request, type: type[T], limit: int = 64 * 1024) -> T:
    """The request's JSON body as `type`. Raises Problem 400 (what is wrong, where), 413 or 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES and not kind.endswith("+json"):
        raise Problem(415, "Not JSON", f"{kind!r} is not taken here: send application/json")
    try:
        return msgspec.json.decode(await read(request, limit), type=type)
    except NOT_JSON as error:
        hint = "send a JSON object as /docs shows"
        raise Problem(400, "Body not understood", f"{not_json(error)}; {hint}") from None


def query(request: Request, type: type[T]) -> T:
    """The request's query as `type`; an empty parameter is a missing one. Raises Problem 400."""
    given = {name: value for name, value in request.query_params.items() if value}
    try:
        return msgspec.convert(given, type, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        name = path.strip("`$.")
        raise Problem(400, "Query not understood", f"{name}={given.get(name)!r}: {message}") from None


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
