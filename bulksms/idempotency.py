"""Answers kept for idempotency keys: the same request, sent again under its key, is answered the same.

An answer is written in the transaction that did what was asked for: it is there exactly if that was done.
https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

from typing import NamedTuple
from uuid import UUID

from common.database import Connection, Database


class Key(NamedTuple):
    """A client's key for one operation of its workspace; `digest` stands for all that the request says."""

    workspace_id: UUID
    operation: str
    key: str
    digest: bytes


class KeyReusedError(Exception):
    """The key was used before, for a request that said something else."""


class KeyTakenError(Exception):
    """Another request with this key was done first, and nothing of this one: the answer is there now."""


_FIND = "SELECT digest, answer FROM idempotency WHERE workspace_id = $1 AND operation = $2 AND key = $3"

# Waits for another transaction that is about to write the same key.
_REMEMBER = """
    INSERT INTO idempotency (workspace_id, operation, key, digest, answer) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING key
"""

_FORGET = "DELETE FROM idempotency WHERE created_at < now() - $1 * interval '1 day'"


async def find(database: Database, key: Key) -> bytes | None:
    """The answer that was given under this key, if it was used. Raises KeyReusedError."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FIND, key.workspace_id, key.operation, key.key)
    if row is None:
        return None
    if row["digest"] != key.digest:
        raise KeyReusedError(f"the key {key.key!r} was used for another request")
    answer: bytes = row["answer"]
    return answer


async def remember_once(connection: Connection, key: Key, answer: bytes) -> None:
    """Keep the answer with what the transaction did.

    Raises KeyTakenError if another request has used the key meanwhile; that undoes the transaction.
    """
    if not await remember(connection, key, answer):
        raise KeyTakenError


async def remember(connection: Connection, key: Key, answer: bytes) -> bool:
    """Keep the answer with what the transaction did; False if another request has used the key meanwhile."""
    return await connection.fetchval(_REMEMBER, *key, answer) is not None


async def forget(database: Database, days: int = 7) -> None:
    """Drop the answers that are older."""
    async with database.connection() as connection:
        await connection.execute(_FORGET, days)
