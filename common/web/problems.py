"""Errors as HTTP problem details (RFC 9457), the same in every web service."""

from collections.abc import Callable
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from common.database import UNAVAILABLE

log = structlog.get_logger()


class ProblemDetails(msgspec.Struct):
    """An error (RFC 9457): what is wrong, where, and how to fix it."""

    title: str
    status: int
    detail: str


class Problem(Exception):
    """An error response: status, title, what is wrong and how to fix it, and further members."""

    def __init__(
        self, status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = headers or {}
        self.body = {"title": title, "status": status, "detail": detail, **members}

    def response(self) -> Response:
        """Create the response, `application/problem+json`."""
        return Response(
            msgspec.json.encode(self.body),
            status_code=self.status,
            headers=self.headers,
            media_type="application/problem+json",
        )


def unavailable(reason: str, retry_after: int = 1) -> Problem:
    """503: a dependency does not answer; the same request may succeed after `retry_after` seconds."""
    return Problem(
        503,
        "Temporarily unavailable",
        f"{reason}; nothing was changed, try again in {retry_after} s",
        headers={"Retry-After": str(retry_after)},
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hints = {
        404: f"there is no resource at {request.url.path}; /docs lists the operations",
        405: f"{request.method} is not supported at this path; /docs lists the operations",
    }
    return Problem(
        error.status_code,
        str(error.detail),
        hints.get(error.status_code, str(error.detail)),
        headers=dict(error.headers or {}),
    ).response()


async def _gone(request: Request, error: Exception) -> Response:
    """The client disconnected, or was too slow, while it sent its request: nobody reads this response."""
    return Response(status_code=400)


async def _database_unavailable(request: Request, error: Exception) -> Response:
    log.warning("the database does not answer", path=request.url.path, reason=str(error) or type(error).__name__)
    return unavailable("the database does not answer").response()


async def _bug(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return Problem(
        500, "Internal error", "this is a fault of the service, not of your request; it has been logged"
    ).response()


async def _misconfigured(request: Request, error: Exception) -> Response:
    log.error("the service is misconfigured", path=request.url.path, reason=str(error))
    return Problem(500, "Service misconfigured", "an operator must fix this; see the log of the service").response()


HANDLERS: dict[Any, Callable[[Request, Exception], Any]] = {
    Problem: _problem,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _bug,
    **dict.fromkeys(UNAVAILABLE, _database_unavailable),
}


def install(app: Starlette, misconfigured: type[Exception] | None = None) -> None:
    """Answer every error of the app with problem details; `misconfigured` is the type of configuration errors."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    if misconfigured is not None:
        app.add_exception_handler(misconfigured, _misconfigured)
