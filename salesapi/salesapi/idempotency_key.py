"""The header Idempotency-Key: a request sent again under its key gets the answer that it got the first time.

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

_LONGEST = 200


def key_of(request: Request) -> str | None:
    """The request's key, if it has one. Raises Problem 400."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not 1 <= len(key) <= _LONGEST or not key.isascii() or not key.isprintable():
        raise Problem(
            400,
            "Key not usable",
            f"Idempotency-Key: must have 1 to {_LONGEST} printable ASCII characters, such as a UUID",
        )
    return key


async def replay(salesdb: Database, key: Key, status: int) -> Response | None:
    """The answer that was given under this key, if it was used. Raises Problem 422 if for something else."""
    try:
        known = await idempotency.find(salesdb, key)
    except KeyReusedError as error:
        raise Problem(422, "Key in use", f"Idempotency-Key: {error}; make a new key for each request") from None
    return None if known is None else answer(known, status, replayed=True)


async def replayed(salesdb: Database, key: Key, status: int) -> Response:
    """The answer to the request that has used this key first."""
    known = await replay(salesdb, key, status)
    assert known is not None, "it was there a moment ago"
    return known


def answer(body: bytes, status: int, *, replayed: bool = False) -> Response:
    """An answer about a campaign that was made or started; a new one's tells where it is."""
    headers = {"Idempotency-Replayed": "true"} if replayed else {}
    if status == 201:
        headers["Location"] = f"/bulksms/{msgspec.json.decode(body, type=dict[str, Any])['bulksms_id']}"
    return Response(body, status, headers, media_type="application/json")
