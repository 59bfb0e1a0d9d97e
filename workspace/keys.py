"""API keys: each belongs to a workspace or to an operator; ds stores a hash of the secret, never the key.

A key is `bsk_<id>_<secret>`. Once a key has been created every caller needs one, also after all keys were revoked.
"""

import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple
from uuid import UUID

import asyncpg

from common import audit_log
from common.audit_log import Actor
from common.auth.principal import Principal
from common.database import Connection, Database
from workspace.credit import WorkspaceNotFoundError

_PREFIX = "bsk"
_SECRET = 32  # random bytes


class KeyNotFoundError(Exception):
    """The key does not exist or was revoked."""


class Key(NamedTuple):
    """An API key without its secret; `workspace_id` is None for an operator's key."""

    id: UUID
    workspace_id: UUID | None
    workspace: str | None
    created_at: datetime
    rotated_at: datetime | None
    revoked_at: datetime | None


_CREATE = "INSERT INTO api_key (workspace_id, secret_hash) VALUES ($1, $2) RETURNING id"

_FIND = "SELECT workspace_id, secret_hash FROM api_key WHERE id = $1 AND revoked_at IS NULL"

_ANY = "SELECT EXISTS (SELECT FROM api_key)"

_ROTATE = """
    UPDATE api_key SET secret_hash = $2, rotated_at = now() WHERE id = $1 AND revoked_at IS NULL
    RETURNING id, workspace_id
"""

_REVOKE = """
    UPDATE api_key SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL RETURNING id, workspace_id
"""

_LIST = """
    SELECT api_key.id, workspace_id, name, api_key.created_at, rotated_at, revoked_at
    FROM api_key LEFT JOIN workspace ON workspace.id = workspace_id
    ORDER BY api_key.id
"""


async def create(database: Database, workspace_id: UUID | None, actor: Actor) -> str:
    """Create and return a key of a workspace, or of an operator (None). Raises WorkspaceNotFoundError."""
    secret = secrets.token_urlsafe(_SECRET)
    async with database.transaction() as connection:
        try:
            key_id: UUID = await connection.fetchval(_CREATE, workspace_id, _hash(secret))
        except asyncpg.ForeignKeyViolationError:
            raise WorkspaceNotFoundError(f"there is no workspace {workspace_id}") from None
        await audit_log.write(connection, actor, "key.create", workspace_id=workspace_id, object_id=key_id)
    return _format(key_id, secret)


async def rotate(database: Database, key_id: UUID, actor: Actor) -> str:
    """Give a key a new secret; the old one is invalid from now on. Raises KeyNotFoundError."""
    secret = secrets.token_urlsafe(_SECRET)
    async with database.transaction() as connection:
        await _change(connection, "key.rotate", actor, _ROTATE, key_id, _hash(secret))
    return _format(key_id, secret)


async def revoke(database: Database, key_id: UUID, actor: Actor) -> None:
    """Revoke a key permanently. Raises KeyNotFoundError."""
    async with database.transaction() as connection:
        await _change(connection, "key.revoke", actor, _REVOKE, key_id)


async def _change(
    connection: Connection, action: str, actor: Actor, statement: str, key_id: UUID, *arguments: bytes
) -> None:
    """Change a key that is not revoked, and record who did it. Raises KeyNotFoundError."""
    row = await connection.fetchrow(statement, key_id, *arguments)
    if row is None:
        raise KeyNotFoundError(f"there is no key {key_id}, or it was revoked")
    await audit_log.write(connection, actor, action, workspace_id=row["workspace_id"], object_id=key_id)


async def list_keys(database: Database) -> list[Key]:
    """All keys, revoked ones included, oldest first."""
    async with database.connection() as connection:
        return [Key(*row) for row in await connection.fetch(_LIST)]


async def verify(database: Database, key: str) -> Principal | None:
    """The principal of a key; None if it is not valid. An anonymous principal if no key was ever created."""
    key_id, secret = _parse(key)
    async with database.connection() as connection:
        row = await connection.fetchrow(_FIND, key_id) if key_id else None
        if row is not None and hmac.compare_digest(row["secret_hash"], _hash(secret)):
            return Principal(key_id, row["workspace_id"])
        return None if await connection.fetchval(_ANY) else Principal(None, None)


@asynccontextmanager
async def temporary_key(database: Database, actor: Actor) -> AsyncIterator[str]:
    """An operator's key for the duration of the block; empty if no key was ever created, since none is needed."""
    async with database.connection() as connection:
        needed = await connection.fetchval(_ANY)
    key = await create(database, None, actor) if needed else ""
    try:
        yield key
    finally:
        if key_id := _parse(key)[0]:
            await revoke(database, key_id, actor)


def _hash(secret: str) -> bytes:
    # One round of SHA-256: slow hashes protect passwords, which can be guessed. 256 random bits cannot, and a slow hash
    # would only delay each call.
    return sha256(secret.encode()).digest()


def _format(key_id: UUID, secret: str) -> str:
    return f"{_PREFIX}_{key_id.hex}_{secret}"


def _parse(key: str) -> tuple[UUID | None, str]:
    """The id and the secret of a key; the id is None if the format is wrong."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    try:
        return (UUID(key_id) if prefix == _PREFIX else None), secret
    except ValueError:
        return None, secret
