"""`/health` and `/ready`: whether a process is up, and whether the dependencies that it needs answer."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.web.problems import Problem
from common.web.requests import json_response

Check = Callable[[], Awaitable[object]]


class Dependency(NamedTuple):
    """Something that a service needs: where it should be, and what raises if it does not answer."""

    address: str
    check: Check


def health_routes(dependencies: Mapping[str, Dependency]) -> list[Route]:
    """`/health`: the process is up. `/ready`: each dependency answers within 2 s."""

    async def health(request: Request) -> Response:
        return json_response({"status": "up"})

    async def ready(request: Request) -> Response:
        results = await asyncio.gather(*(_probe(one.check) for one in dependencies.values()))
        states = dict(zip(dependencies, results, strict=True))
        missing = [name for name, state in states.items() if state != "ok"]
        if missing:
            raise Problem(503, "Not ready", f"waiting for {', '.join(missing)}", parts=states)
        return json_response({"status": "ready", "parts": states})

    return [Route("/health", health), Route("/ready", ready)]


async def _probe(check: Check) -> str:
    try:
        async with asyncio.timeout(2):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
