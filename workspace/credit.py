"""Changes of a workspace's credit, each recorded in the ledger once: `reference` makes repetition harmless.

Amounts are credits in whole tenths. `credit` is what a workspace owns, `reserved` the part that its running campaigns
may still spend; the rest is available. A charge reduces credit and reservation together.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import asyncpg

from common import audit_log
from common.audit_log import Actor
from common.database import Connection, Database
from common.observability.logs import masked


class Credit(NamedTuple):
    """A workspace's credit; `version` increases with every change."""

    workspace_id: UUID
    name: str
    credit: Decimal
    reserved: Decimal
    version: int

    @property
    def available(self) -> Decimal:
        return self.credit - self.reserved


class Entry(NamedTuple):
    """An entry of salesdb's outbox: kind is `charge` or `release`, amount in credits."""

    reference: str
    workspace_id: UUID
    campaign_id: UUID
    kind: str
    amount: Decimal


class WorkspaceNotFoundError(Exception):
    """No workspace has this id."""


class ReservationConflictError(Exception):
    """The campaign has a reservation of another amount or workspace."""


class TopUpConflictError(Exception):
    """The reference was used before, for a top-up of the amount `recorded`, in credits."""

    def __init__(self, recorded: Decimal, amount: Decimal) -> None:
        super().__init__(f"a top-up with this reference has added {recorded} credits, not {amount}")
        self.recorded = recorded
        self.amount = amount


class UncoveredChargeError(Exception):
    """An entry belongs to a campaign that never held a reservation, or charges it more than it reserved."""


class InsufficientCreditError(Exception):
    """The available credit is below the needed amount, both in credits."""

    def __init__(self, needed: Decimal, available: Decimal) -> None:
        super().__init__(f"{needed} credits are needed, {available} are available")
        self.needed = needed
        self.available = available


_COLUMNS = "id, name, credit, reserved, version"

_GET = f"SELECT {_COLUMNS} FROM workspace WHERE id = ANY($1)"

_LOCK = f"SELECT {_COLUMNS} FROM workspace WHERE id = ANY($1) ORDER BY id FOR UPDATE"

_PAGE = f"SELECT {_COLUMNS} FROM workspace WHERE ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2"

_CREATE = f"INSERT INTO workspace (name) VALUES ($1) RETURNING {_COLUMNS}"

_RECORD = """
    INSERT INTO ledger (workspace_id, campaign_id, kind, amount, reference)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (reference) DO NOTHING
    RETURNING reference
"""

# A reservation of 0 if there is none, so that a later reservation of the campaign conflicts with it.
_BLOCK_RESERVATION = (
    "INSERT INTO reservation (campaign_id, workspace_id, amount) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING"
)

_ADD = f"""
    UPDATE workspace
    SET credit = credit + $2, reserved = reserved + $3, version = version + 1, modified_at = now()
    WHERE id = $1
    RETURNING {_COLUMNS}
"""

# The entries that are not in the ledger yet, summed by campaign and by workspace. A charge is taken from the campaign's
# reservation as long as it suffices; a charge after its end (late delivery report) is taken from the available credit.
_SETTLE = f"""
    WITH fresh AS (
        INSERT INTO ledger (workspace_id, campaign_id, kind, amount, reference)
        SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::numeric[], $5::text[])
        ON CONFLICT (reference) DO NOTHING
        RETURNING workspace_id, campaign_id, kind, amount
    ), due AS (
        SELECT workspace_id, campaign_id,
               coalesce(sum(amount) FILTER (WHERE kind = 'charge'), 0) AS charge,
               coalesce(sum(amount) FILTER (WHERE kind = 'release'), 0) AS release
        FROM fresh
        GROUP BY workspace_id, campaign_id
    ), settled AS (
        UPDATE reservation
        SET charged = charged + due.charge, released = released + due.release
        FROM due
        WHERE reservation.campaign_id = due.campaign_id
        RETURNING due.campaign_id,
                  greatest(0, old.amount - old.charged - old.released)
                  - greatest(0, new.amount - new.charged - new.released) AS freed
    ), total AS (
        SELECT workspace_id, sum(charge) AS charge, sum(coalesce(freed, 0)) AS freed
        FROM due LEFT JOIN settled USING (campaign_id)
        GROUP BY workspace_id
    )
    UPDATE workspace
    SET credit = credit - total.charge, reserved = reserved - total.freed,
        version = version + 1, modified_at = now()
    FROM total
    WHERE workspace.id = total.workspace_id
    RETURNING {_COLUMNS}
"""

# A campaign is never charged more than it reserved; one that was not run has no reservation, or one of 0.
_UNCOVERED = """
    SELECT entry.campaign_id
    FROM unnest($1::uuid[], $2::uuid[]) AS entry (campaign_id, workspace_id)
    LEFT JOIN reservation AS held
        ON held.campaign_id = entry.campaign_id AND held.workspace_id = entry.workspace_id AND held.amount > 0
    WHERE held.campaign_id IS NULL OR held.charged > held.amount
    LIMIT 1
"""


async def get(database: Database, workspace_id: UUID) -> Credit:
    """The workspace's current credit. Raises WorkspaceNotFoundError."""
    credits = await get_many(database, [workspace_id])
    if not credits:
        raise WorkspaceNotFoundError(f"there is no workspace {workspace_id}")
    return credits[0]


async def get_many(database: Database, workspace_ids: Sequence[UUID]) -> list[Credit]:
    """The credit of the workspaces with these ids; unknown ids are skipped."""
    async with database.connection() as connection:
        return [Credit(*row) for row in await connection.fetch(_GET, workspace_ids)]


async def page(database: Database, after: UUID | None, limit: int) -> list[Credit]:
    """Workspaces, oldest first, starting after `after`."""
    async with database.connection() as connection:
        return [Credit(*row) for row in await connection.fetch(_PAGE, after, limit)]


async def create(database: Database, name: str, credit: Decimal, actor: Actor) -> Credit:
    """Create a workspace with an opening `credit`, recorded in the ledger like a top-up."""
    async with database.transaction() as connection:
        workspace = Credit(*(await connection.fetch(_CREATE, name))[0])
        await audit_log.write(
            connection,
            actor,
            "workspace.create",
            workspace_id=workspace.workspace_id,
            object_id=workspace.workspace_id,
            credit=str(credit),
        )
        if not credit:
            return workspace
        return await _top_up(connection, workspace.workspace_id, credit, f"opening:{workspace.workspace_id}")


async def top_up(database: Database, workspace_id: UUID, amount: Decimal, reference: str, actor: Actor) -> Credit:
    """Add credit, once per reference. Raises WorkspaceNotFoundError, TopUpConflictError."""
    async with database.transaction() as connection:
        before = await _lock(connection, workspace_id)
        now = await _top_up(connection, workspace_id, amount, f"topup:{workspace_id}:{reference}")
        if now.version != before.version:
            await audit_log.write(
                connection,
                actor,
                "credit.topup",
                workspace_id=workspace_id,
                object_id=workspace_id,
                amount=str(amount),
                reference=masked(reference),
            )
        return now


async def _top_up(connection: Connection, workspace_id: UUID, amount: Decimal, reference: str) -> Credit:
    now = await _lock(connection, workspace_id)
    if await connection.fetchval(_RECORD, workspace_id, None, "topup", amount, reference) is None:
        recorded = await connection.fetchval("SELECT amount FROM ledger WHERE reference = $1", reference)
        if recorded != amount:
            raise TopUpConflictError(recorded, amount)
        return now
    return Credit(*(await connection.fetch(_ADD, workspace_id, amount, Decimal(0)))[0])


async def reserve(database: Database, workspace_id: UUID, campaign_id: UUID, amount: Decimal) -> Credit:
    """Reserve `amount` for a campaign, once per campaign, if it is available.

    Raises WorkspaceNotFoundError, InsufficientCreditError, and ReservationConflictError if the campaign holds a
    reservation that differs.
    """
    async with database.transaction() as connection:
        now = await _lock(connection, workspace_id)
        held = await connection.fetchrow(
            "SELECT workspace_id, amount FROM reservation WHERE campaign_id = $1", campaign_id
        )
        if held:
            if tuple(held) != (workspace_id, amount):
                raise ReservationConflictError(
                    f"campaign {campaign_id} holds a reservation of {held['amount']} credits"
                )
            return now
        if now.available < amount:
            raise InsufficientCreditError(amount, now.available)
        await connection.execute(
            "INSERT INTO reservation (campaign_id, workspace_id, amount) VALUES ($1, $2, $3)",
            campaign_id,
            workspace_id,
            amount,
        )
        await connection.fetchval(_RECORD, workspace_id, campaign_id, "reserve", amount, f"reserve:{campaign_id}")
        return Credit(*(await connection.fetch(_ADD, workspace_id, Decimal(0), amount))[0])


async def release(database: Database, workspace_id: UUID, campaign_id: UUID) -> Credit:
    """Release the rest of the reservation of a campaign that will not run, and block further reservations.

    Harmless to repeat. Raises WorkspaceNotFoundError.
    """
    async with database.transaction() as connection:
        now = await _lock(connection, workspace_id)
        await connection.execute(_BLOCK_RESERVATION, campaign_id, workspace_id)
        rest = await connection.fetchval(
            "SELECT amount - charged - released FROM reservation WHERE campaign_id = $1 AND workspace_id = $2",
            campaign_id,
            workspace_id,
        )
        if not rest or rest < 0:
            return now
        entry = Entry(f"release:{campaign_id}", workspace_id, campaign_id, "release", rest)
        return (await _settle(connection, [entry]) or [now])[0]


_REFUSED = (asyncpg.IntegrityConstraintViolationError, UncoveredChargeError)


async def deduct(database: Database, entries: Sequence[Entry]) -> tuple[list[Credit], list[str]]:
    """Record the entries of salesdb's outbox in the ledger, each once, in any order.

    Returns the changed workspaces and the references that are settled: all except charges beyond the credit of their
    workspace (late delivery reports after the end of a campaign), which are settled after a top-up, entries of an
    unknown workspace, and those of a campaign that holds no reservation for them. Such an entry does not delay others.
    """
    try:
        async with database.transaction() as connection:
            return await _settle_locked(connection, entries), [entry.reference for entry in entries]
    except _REFUSED:
        return await _deduct_each(database, entries)


async def _deduct_each(database: Database, entries: Sequence[Entry]) -> tuple[list[Credit], list[str]]:
    changed: dict[UUID, Credit] = {}
    settled: list[str] = []
    for entry in entries:
        try:
            async with database.transaction() as connection:
                for credit in await _settle_locked(connection, [entry]):
                    changed[credit.workspace_id] = credit
        except _REFUSED:
            continue
        settled.append(entry.reference)
    return list(changed.values()), settled


async def _settle_locked(connection: Connection, entries: Sequence[Entry]) -> list[Credit]:
    # Locked in id order, so that concurrent batches of entries cannot deadlock.
    await connection.fetch(_LOCK, list({entry.workspace_id for entry in entries}))
    changed = await _settle(connection, entries)
    campaigns = {(entry.campaign_id, entry.workspace_id) for entry in entries}
    uncovered = await connection.fetchval(_UNCOVERED, *map(list, zip(*campaigns, strict=True))) if campaigns else None
    if uncovered is not None:
        raise UncoveredChargeError(f"campaign {uncovered} holds no reservation for this")
    return changed


async def _settle(connection: Connection, entries: Sequence[Entry]) -> list[Credit]:
    rows = await connection.fetch(
        _SETTLE,
        [entry.workspace_id for entry in entries],
        [entry.campaign_id for entry in entries],
        [entry.kind for entry in entries],
        [entry.amount for entry in entries],
        [entry.reference for entry in entries],
    )
    return [Credit(*row) for row in rows]


async def _lock(connection: Connection, workspace_id: UUID) -> Credit:
    row = await connection.fetchrow(_LOCK, [workspace_id])
    if row is None:
        raise WorkspaceNotFoundError(f"there is no workspace {workspace_id}")
    return Credit(*row)
