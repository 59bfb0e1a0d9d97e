"""A request's id: taken from the caller or made, returned, and in every log line of what the request sets off.

It goes on to other processes in gRPC metadata, and in the ids of jobs.
"""

import re
from typing import Any
from uuid import uuid4

import structlog

_NAME = "request_id"
_HEADER = b"x-request-id"
_SANE = re.compile(rb"[A-Za-z0-9_-]{1,64}")

METADATA = "x-request-id"


def current() -> str:
    """The id of the request that is being served; empty if there is none."""
    return str(structlog.contextvars.get_contextvars().get(_NAME, ""))


def bind(request_id: str) -> None:
    """From now on, in this task, what is logged belongs to that request."""
    if request_id and _SANE.fullmatch(request_id.encode()):
        structlog.contextvars.bind_contextvars(**{_NAME: request_id})


class RequestIds:
    """ASGI middleware that gives each HTTP request and WebSocket its id."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope["headers"]).get(_HEADER, b"")
        request_id = given if _SANE.fullmatch(given) else uuid4().hex.encode()

        async def answer(message: Any) -> None:
            if message["type"] in _BEGINNINGS:
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        with structlog.contextvars.bound_contextvars(**{_NAME: request_id.decode()}):
            await self._app(scope, receive, answer)


_BEGINNINGS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
