"""The header Idempotency-Key: a request repeated with its key gets the first response again.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from bulksms import idempotency
from bulksms.idempotency import Key, KeyReusedError
from common.database import Database
from common.web.problems import Problem

_MAX_LENGTH = 200


def key_of(request: Request) -> str | None:
    """The idempotency key of the request, if any. Raises Problem 400."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _MAX_LENGTH or not key.isascii() or not key.isprintable():
        raise Problem(
            400,
            "Key not usable",
            f"Idempotency-Key: must have 1 to {_MAX_LENGTH} printable ASCII characters, such as a UUID",
        )
    return key


async def replay(salesdb: Database, key: Key, status: int) -> Response | None:
    """The response stored for this key, if any. Raises Problem 422 if the key was used for another request."""
    try:
        body = await idempotency.find(salesdb, key)
    except KeyReusedError as error:
        raise Problem(422, "Key in use", f"Idempotency-Key: {error}; make a new key for each request") from None
    return None if body is None else response(body, status, replayed=True)


async def replayed(salesdb: Database, key: Key, status: int) -> Response:
    """The stored response of the request that used this key first."""
    first = await replay(salesdb, key, status)
    assert first is not None, "stored by the transaction that used the key"
    return first


def response(body: bytes, status: int, *, replayed: bool = False) -> Response:
    """A JSON response; 201 has the header Location of the new campaign."""
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    if status == 201:
        headers["Location"] = f"/bulksms/{msgspec.json.decode(body, type=dict[str, Any])['bulksms_id']}"
    return Response(body, status, headers, media_type="application/json")
