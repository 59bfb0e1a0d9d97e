"""`/health` and `/ready`: whether a process is up, and whether its dependencies answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

import msgspec
import structlog
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from common.auth.loopback import is_loopback
from common.observability.logs import Throttle
from common.web.operations import Operation, routes
from common.web.problems import Problem
from common.web.requests import json_response

log = structlog.get_logger()

Check = Callable[[], Awaitable[object]]


class Dependency(NamedTuple):
    """A dependency of a process: its address, and a check that raises if it does not answer."""

    address: str
    check: Check


class Up(msgspec.Struct):
    """The process is up."""

    status: Literal["up"]


class Ready(msgspec.Struct):
    """All dependencies of the process answer."""

    status: Literal["ready"]
    parts: dict[str, str]


IsOperator = Callable[[HTTPConnection], Awaitable[bool]]


async def _no_operator(connection: HTTPConnection) -> bool:
    return False


def health_routes(dependencies: Mapping[str, Dependency]) -> list[Route]:
    """The routes `/health` and `/ready`, for a process without an operation table."""
    return routes(health_operations(dependencies))


def health_operations(
    dependencies: Mapping[str, Dependency], is_operator: IsOperator = _no_operator
) -> list[Operation]:
    """The operations `/health` (the process is up) and `/ready` (each dependency answers within 2 s).

    Why a dependency does not answer is told to operators and to callers on this machine, and logged: it may contain
    addresses and errors of the database.
    """
    may_log = Throttle()

    async def health(request: Request) -> Response:
        return json_response(Up("up"))

    async def ready(request: Request) -> Response:
        results = await asyncio.gather(*(_probe(dependency.check) for dependency in dependencies.values()))
        states = dict(zip(dependencies, results, strict=True))
        missing = [name for name, state in states.items() if state != "ok"]
        if missing:
            if may_log():
                log.warning("not ready", parts={name: states[name] for name in missing})
            if not (_is_local(request) or await is_operator(request)):
                states = {name: "ok" if state == "ok" else "does not answer" for name, state in states.items()}
            raise Problem(503, "Not ready", f"waiting for {', '.join(missing)}", parts=states)
        return json_response(Ready("ready", states))

    return [
        Operation("GET", "/health", health, "Is the process up?", {200: Up}, is_open=True),
        Operation("GET", "/ready", ready, "Do its dependencies answer?", {200: Ready}, is_open=True),
    ]


def _is_local(request: Request) -> bool:
    """Whether the caller is on this machine; not if a proxy on this machine passes on the request of another."""
    is_forwarded = any(name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip", "via"))
    return not is_forwarded and request.client is not None and is_loopback(request.client.host)


async def _probe(check: Check) -> str:
    try:
        async with asyncio.timeout(2):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
