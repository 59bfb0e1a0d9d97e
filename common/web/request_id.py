"""Request ids: taken from the caller or generated, returned in a header, and in every log line of the request.

They are passed to other processes in gRPC metadata and in the ids of jobs.
"""

import re
from typing import Any
from uuid import uuid4

import structlog

_NAME = "request_id"
_HEADER = b"x-request-id"
_VALID = re.compile(rb"[A-Za-z0-9_-]{1,64}")

METADATA = "x-request-id"


def current() -> str:
    """The id of the current request; empty if there is none."""
    return str(structlog.contextvars.get_contextvars().get(_NAME, ""))


def bind(request_id: str) -> None:
    """Add this request id to the log lines of the current task."""
    if request_id and _VALID.fullmatch(request_id.encode()):
        structlog.contextvars.bind_contextvars(**{_NAME: request_id})


class RequestIds:
    """ASGI middleware that assigns an id to each HTTP request and WebSocket."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        received = dict(scope["headers"]).get(_HEADER, b"")
        request_id = received if _VALID.fullmatch(received) else uuid4().hex.encode()

        async def send_with_id(message: Any) -> None:
            if message["type"] in _RESPONSE_STARTS:
                message["headers"] = [*message.get("headers", ()), (_HEADER, request_id)]
            await send(message)

        with structlog.contextvars.bound_contextvars(**{_NAME: request_id.decode()}):
            await self._app(scope, receive, send_with_id)


_RESPONSE_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
