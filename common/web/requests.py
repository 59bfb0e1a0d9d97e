"""Reading of request bodies and queries within limits, and JSON responses; invalid input raises a Problem."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.web.problems import Problem

T = TypeVar("T")

# What msgspec raises for bytes that are not JSON, not UTF-8, nested too deeply, or not of the type.
NOT_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# What HTTP clients send for a JSON body; curl's -d declares every body a form.
_JSON_TYPES = ("", "application/json", "application/x-www-form-urlencoded", "application/octet-stream", "text/plain")


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Create a JSON response; Decimals become strings, times RFC 3339."""
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def not_json(error: Exception) -> str:
    """Describe an error of NOT_JSON: what is wrong with a body, and where."""
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def check_body(request: Request, limit: int) -> None:
    """Check the headers: raise Problem 413 if the body is too large, 415 if it is compressed."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(
            415,
            "Encoding not supported",
            "send the body uncompressed",
            headers={"Accept-Encoding": "identity"},
        )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limit:
        raise too_large(limit)


def too_large(limit: int) -> Problem:
    """413: the body has more than `limit` bytes."""
    return Problem(413, "Body too large", f"the body may have at most {limit} bytes")


async def read_body(request: Request, limit: int) -> bytearray:
    """Read the request's body, up to `limit` bytes. Raises Problem 413, or 415 if it is compressed."""
    check_body(request, limit)
    received = bytearray()
    async for chunk in request.stream():
        received += chunk
        if len(received) > limit:
            raise too_large(limit)
    return received


async def read_json(request: Request, type: type[T], limit: int = 64 * 1024) -> T:
    """Read the request's JSON body as `type`. Raises Problem 400 (what is wrong, where), 413 or 415."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES and not kind.endswith("+json"):
        raise Problem(415, "Media type not supported", f"{kind!r} is not supported: send application/json")
    try:
        return msgspec.json.decode(await read_body(request, limit), type=type)
    except NOT_JSON as error:
        hint = "send a JSON object as /docs shows"
        raise Problem(400, "Invalid body", f"{not_json(error)}; {hint}") from None


def read_query(request: Request, type: type[T]) -> T:
    """Read the request's query as `type`; an empty parameter counts as missing. Raises Problem 400."""
    parameters = {name: value for name, value in request.query_params.items() if value}
    try:
        return msgspec.convert(parameters, type, strict=False)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at ")
        name = path.strip("`$.")
        raise Problem(400, "Invalid query", f"{name}={parameters.get(name)!r}: {message}") from None
