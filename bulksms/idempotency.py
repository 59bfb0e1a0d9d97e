"""Responses stored by idempotency key: a request that is repeated with its key gets the same response.

A response is written in the transaction that performs the request, so it is stored exactly if that was committed.
https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from typing import NamedTuple
from uuid import UUID

from common.database import Connection, Database


class Key(NamedTuple):
    """A client's key for one operation in its workspace; `digest` is a hash of the request's content."""

    workspace_id: UUID
    operation: str
    key: str
    digest: bytes


class KeyReusedError(Exception):
    """The key was used before for a request with other content."""


class KeyInUseError(Exception):
    """Another request with this key was committed first; its response is stored, this request is rolled back."""


_FIND = "SELECT digest, answer FROM idempotency WHERE workspace_id = $1 AND operation = $2 AND key = $3"

# Waits for a concurrent transaction that writes the same key.
_STORE = """
    INSERT INTO idempotency (workspace_id, operation, key, digest, answer) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING key
"""

_DELETE_EXPIRED = "DELETE FROM idempotency WHERE created_at < now() - $1 * interval '1 day'"


async def find(database: Database, key: Key) -> bytes | None:
    """The response stored for this key, if it was used. Raises KeyReusedError."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FIND, key.workspace_id, key.operation, key.key)
    if row is None:
        return None
    if row["digest"] != key.digest:
        raise KeyReusedError(f"the key {key.key!r} was used for another request")
    response: bytes = row["answer"]
    return response


async def store_once(connection: Connection, key: Key, response: bytes) -> None:
    """Store the response in the transaction of the request.

    Raises KeyInUseError if another request has used the key meanwhile: roll the transaction back.
    """
    if not await store(connection, key, response):
        raise KeyInUseError


async def store(connection: Connection, key: Key, response: bytes) -> bool:
    """Store the response in the transaction of the request; False if another request has used the key meanwhile."""
    return await connection.fetchval(_STORE, *key, response) is not None


async def delete_expired(database: Database, days: int = 7) -> None:
    """Delete responses that are older than `days`."""
    async with database.connection() as connection:
        await connection.execute(_DELETE_EXPIRED, days)
