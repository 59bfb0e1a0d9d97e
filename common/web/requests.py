"""Reads requests and makes JSON responses, within bounds; what cannot be read is a Problem that says what and where."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.web.problems import Problem

T = TypeVar("T")

# What msgspec raises for bytes that are no JSON, no UTF-8, nested without end, or not of the type.
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# What people's tools say of a JSON body; curl's -d says that every body is a form.
_JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
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


async def read_body(request: Request, limit: int) -> bytearray:
    """The request's body, up to `limit` bytes. Raises Problem 413, or 415 if it is compressed."""
    check_body(request, limit)
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > limit:
            raise too_large(limit)
    return received


async def read_json(request: Request, type: type[T], limit: int = 64 * 1024) -> T:
    """The request's JSON body as `type`. Raises Problem 400 (what is wrong, where), 413 or 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES and not kind.endswith("+json"):
        raise Problem(415, "Not JSON", f"{kind!r} is not taken here: send application/json")
    try:
        return msgspec.json.decode(await read_body(request, limit), type=type)
    except NOT_JSON as error:
        hint = "send a JSON object as /docs shows"
        raise Problem(400, "Body not understood", f"{not_json(error)}; {hint}") from None


def read_query(request: Request, type: type[T]) -> T:
    """The request's query as `type`; an empty parameter is a missing one. Raises Problem 400."""
    given = {name: value for name, value in request.query_params.items() if value}
    try:
        return msgspec.convert(given, type, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        name = path.strip("`$.")
        raise Problem(400, "Query not understood", f"{name}={given.get(name)!r}: {message}") from None
