"""`/health` and `/ready`: whether a process is up, and whether its dependencies answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.web.operations import Operation, routes
from common.web.problems import Problem
from common.web.requests import json_response

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


def health_routes(dependencies: Mapping[str, Dependency]) -> list[Route]:
    """The routes `/health` and `/ready`, for a process without an operation table."""
    return routes(health_operations(dependencies))


def health_operations(dependencies: Mapping[str, Dependency]) -> list[Operation]:
    """The operations `/health` (the process is up) and `/ready` (each dependency answers within 2 s)."""

    async def health(request: Request) -> Response:
        return json_response(Up("up"))

    async def ready(request: Request) -> Response:
        results = await asyncio.gather(*(_probe(dependency.check) for dependency in dependencies.values()))
        states = dict(zip(dependencies, results, strict=True))
        missing = [name for name, state in states.items() if state != "ok"]
        if missing:
            raise Problem(503, "Not ready", f"waiting for {', '.join(missing)}", parts=states)
        return json_response(Ready("ready", states))

    return [
        Operation("GET", "/health", health, "Is the process up?", {200: Up}, is_open=True),
        Operation("GET", "/ready", ready, "Do its dependencies answer?", {200: Ready}, is_open=True),
    ]


async def _probe(check: Check) -> str:
    try:
        async with asyncio.timeout(2):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
