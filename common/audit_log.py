"""The audit log: who changed what, when, from where, and with which outcome; a table `audit_log` in each database.

An entry is written in the transaction of its change, so there is one exactly if the change was committed. Entries are
never changed or deleted: the database refuses it. Not to be confused with `rpc.audit`, which compares the books.
"""

import getpass
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from common.database import Connection, Database

DONE = "done"

Role = Literal["operator", "workspace", "console", "worker"]


class Actor(msgspec.Struct, frozen=True):
    """Who makes a change: the key of an operator or a workspace, a user of the command line, or a worker.

    `name`: the operating system's user of a command, or the worker. `address`: where the request came from.
    """

    role: Role
    key_id: UUID | None = None
    workspace_id: UUID | None = None
    name: str = ""
    address: str = ""
    request_id: str = ""


def console() -> Actor:
    """The user of this machine who runs a command directly on a database."""
    try:
        return Actor("console", name=getpass.getuser()[:100])
    except (OSError, KeyError):  # an account without a name
        return Actor("console")


def worker(name: str) -> Actor:
    """A worker that acts on its own, such as at the time for which a campaign was scheduled."""
    return Actor("worker", name=name)


class Record(NamedTuple):
    """An entry to write. `workspace_id`: whose data it concerns; `details`: small, and without phone numbers."""

    actor: Actor
    action: str
    workspace_id: UUID | None
    object_id: UUID | None
    outcome: str = DONE
    details: Mapping[str, Any] = {}


class Entry(NamedTuple):
    """An entry of the log as it is stored; `details` is JSON."""

    id: UUID
    at: datetime
    role: str
    name: str
    key_id: UUID | None
    workspace_id: UUID | None
    address: str
    request_id: str
    action: str
    object_id: UUID | None
    outcome: str
    details: str


class Filter(NamedTuple):
    """Which entries to read; None means any. `before` is the id of the last entry of the page before."""

    workspace_id: UUID | None = None
    action: str | None = None
    object_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: UUID | None = None


_WRITE = """
    INSERT INTO audit_log (role, name, key_id, workspace_id, address, request_id, action, object_id, outcome, details)
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[],
                         $8::uuid[], $9::text[], $10::jsonb[])
    RETURNING id, at
"""

# Newest first: ids are UUIDv7, which grow with time.
_PAGE = f"""
    SELECT {", ".join(Entry._fields)} FROM audit_log
    WHERE ($1::uuid IS NULL OR workspace_id = $1) AND ($2::text IS NULL OR action = $2)
      AND ($3::uuid IS NULL OR object_id = $3) AND ($4::timestamptz IS NULL OR at >= $4)
      AND ($5::timestamptz IS NULL OR at < $5) AND ($6::uuid IS NULL OR id < $6)
    ORDER BY id DESC
    LIMIT $7
"""


async def write(
    connection: Connection,
    actor: Actor,
    action: str,
    *,
    workspace_id: UUID | None,
    object_id: UUID | None,
    **details: Any,
) -> tuple[UUID, datetime]:
    """Record a change in its transaction; returns the entry's id and time."""
    record = Record(actor, action, workspace_id, object_id, details=details)
    row = (await _write(connection, [record]))[0]
    return row["id"], row["at"]


async def write_all(database: Database, records: Sequence[Record]) -> None:
    """Record several entries that belong to no transaction, such as refused attempts."""
    async with database.connection() as connection:
        await _write(connection, records)


async def _write(connection: Connection, records: Sequence[Record]) -> list[Any]:
    return await connection.fetch(
        _WRITE,
        [record.actor.role for record in records],
        [record.actor.name for record in records],
        [record.actor.key_id for record in records],
        [record.workspace_id for record in records],
        [record.actor.address for record in records],
        [record.actor.request_id for record in records],
        [record.action for record in records],
        [record.object_id for record in records],
        [record.outcome for record in records],
        [msgspec.json.encode(record.details).decode() for record in records],
    )


async def page(database: Database, wanted: Filter, limit: int) -> list[Entry]:
    """Up to `limit` entries, newest first."""
    async with database.connection() as connection:
        return [Entry(*row) for row in await connection.fetch(_PAGE, *wanted, limit)]
