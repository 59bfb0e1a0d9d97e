"""Errors as people can act on them: HTTP problem details (RFC 9457), the same from every web service."""

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
    """An error (RFC 9457): what is wrong, where, and how to mend it."""

    title: str
    status: int
    detail: str


class Problem(Exception):
    """An answer that is no success: status, title, what went wrong and how to mend it, and members of its own."""

    def __init__(
        self, status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.headers = headers or {}
        self.body = {"title": title, "status": status, "detail": detail, **members}

    def response(self) -> Response:
        """The answer as `application/problem+json`."""
        return Response(
            msgspec.json.encode(self.body),
            status_code=self.status,
            headers=self.headers,
            media_type="application/problem+json",
        )


def unavailable(what: str, retry_after: int = 1) -> Problem:
    """503: a part that the answer needs is missing now; the same request may succeed later."""
    return Problem(
        503,
        "Not available now",
        f"{what}; nothing was changed, try again in {retry_after} s",
        headers={"Retry-After": str(retry_after)},
    )


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response()


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hints = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not answered here"}
    return Problem(
        error.status_code,
        str(error.detail),
        hints.get(error.status_code, str(error.detail)),
        headers=dict(error.headers or {}),
    ).response()


async def _gone(request: Request, error: Exception) -> Response:
    """The client went away, or was too slow, while its request came in: nobody reads this."""
    return Response(status_code=400)


async def _missing_part(request: Request, error: Exception) -> Response:
    log.warning("a part is missing", path=request.url.path, reason=str(error) or type(error).__name__)
    return unavailable("the database does not answer").response()


async def _bug(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, exc_info=error)
    return Problem(500, "Internal error", "this is our mistake; it has been logged").response()


async def _misconfigured(request: Request, error: Exception) -> Response:
    log.error("the service is not set up right", path=request.url.path, reason=str(error))
    return Problem(500, "Not set up right", "an operator must mend this: the log of the service says what").response()


HANDLERS: dict[Any, Callable[[Request, Exception], Any]] = {
    Problem: _problem,
    HTTPException: _http,
    ClientDisconnect: _gone,
    Exception: _bug,
    **dict.fromkeys(UNAVAILABLE, _missing_part),
}


def install(app: Starlette, misconfigured: type[Exception] | None = None) -> None:
    """Answer every error of the app as problem details; those of `misconfigured` as an operator's to mend."""
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
    if misconfigured is not None:
        app.add_exception_handler(misconfigured, _misconfigured)
