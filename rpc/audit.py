"""Audit the credit and the counters with plain SQL on both databases, while the system runs.

It depends on the tables only, so that it cannot share an error with the code that writes them. Each database is read in
one snapshot; ds twice, before and after salesdb, so that concurrent changes are not reported as differences: entries in
the first snapshot of ds must be in salesdb, and entries settled in salesdb must be in the second snapshot of ds.
"""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg

from common.database import Connection
from common.settings import Settings

_Sql: TypeAlias = "asyncpg.Pool | Connection"  # anything that runs queries
_Row: TypeAlias = "asyncpg.Record"

_STATUSES = ("queued", "sent", "failed", "delivered", "undelivered")

_WORKSPACES = """
    SELECT w.id, credit, reserved, coalesce(topups, 0) AS topups, coalesce(charges, 0) AS charges,
           coalesce(held, 0) AS held
    FROM workspace AS w
    LEFT JOIN (
        SELECT workspace_id, sum(amount) FILTER (WHERE kind = 'topup') AS topups,
               sum(amount) FILTER (WHERE kind = 'charge') AS charges
        FROM ledger GROUP BY workspace_id
    ) AS entries ON entries.workspace_id = w.id
    LEFT JOIN (
        SELECT workspace_id, sum(greatest(0, amount - charged - released)) AS held
        FROM reservation GROUP BY workspace_id
    ) AS reservations ON reservations.workspace_id = w.id
    WHERE $1::uuid IS NULL OR w.id = $1
    ORDER BY w.id
"""

# Sums of the ledger by campaign, with the campaign's reservation.
_LEDGER = """
    SELECT campaign_id AS id, entries.*, coalesce(reservation.amount, 0) AS reservation,
           coalesce(charged, 0) AS charged, coalesce(released, 0) AS released,
           greatest(0, reservation.amount - charged - released) AS held
    FROM (
        SELECT campaign_id, coalesce(sum(amount) FILTER (WHERE kind = 'reserve'), 0) AS reserves,
               coalesce(sum(amount) FILTER (WHERE kind = 'charge'), 0) AS charges,
               coalesce(sum(amount) FILTER (WHERE kind = 'release'), 0) AS releases,
               coalesce(sum(amount) FILTER (WHERE kind <> 'reserve' AND reference NOT LIKE 'release:%'), 0)
                   AS from_outbox
        FROM ledger
        WHERE campaign_id IS NOT NULL AND ($1::uuid IS NULL OR workspace_id = $1)
        GROUP BY campaign_id
    ) AS entries LEFT JOIN reservation USING (campaign_id)
"""

_CAMPAIGNS = """
    SELECT bulksms.*, coalesce(contacts, 0) AS contacts, coalesce(sent_cost, 0) AS sent_cost,
           coalesce(queued, 0) AS queued, coalesce(sent, 0) AS sent, coalesce(failed, 0) AS failed,
           coalesce(delivered, 0) AS delivered, coalesce(undelivered, 0) AS undelivered,
           coalesce(charges, 0) AS charges, coalesce(owed, 0) AS owed, coalesce(settled, 0) AS settled
    FROM bulksms
    LEFT JOIN (
        SELECT bulksms_id, count(*) AS contacts, sum(sms_cost) FILTER (WHERE sms_status >= 'sent') AS sent_cost,
               count(*) FILTER (WHERE sms_status = 'queued') AS queued,
               count(*) FILTER (WHERE sms_status = 'sent') AS sent,
               count(*) FILTER (WHERE sms_status = 'failed') AS failed,
               count(*) FILTER (WHERE sms_status = 'delivered') AS delivered,
               count(*) FILTER (WHERE sms_status = 'undelivered') AS undelivered
        FROM bulksms_info GROUP BY bulksms_id
    ) AS rows ON rows.bulksms_id = id
    LEFT JOIN (
        SELECT bulksms_id, sum(amount) FILTER (WHERE kind = 'charge') AS charges, sum(amount) AS owed,
               sum(amount) FILTER (WHERE settled_at IS NOT NULL) AS settled
        FROM outbox GROUP BY bulksms_id
    ) AS entries ON entries.bulksms_id = id
    WHERE $1::uuid IS NULL OR workspace_id = $1
    ORDER BY id
"""

_UNSETTLED = """
    SELECT count(*) AS entries, coalesce(sum(amount), 0) AS amount,
           coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS seconds
    FROM outbox
    WHERE settled_at IS NULL AND ($1::uuid IS NULL OR workspace_id = $1)
"""


class Unsettled(NamedTuple):
    """Outbox entries that ds has not settled: number, credits, age of the oldest in seconds."""

    entries: int
    amount: Decimal
    seconds: float


class Books(NamedTuple):
    """The result of an audit: number of workspaces and campaigns, unsettled entries, and differences in words."""

    workspaces: int
    campaigns: int
    waiting: Unsettled
    differences: list[str]


async def audit(ds: _Sql, salesdb: _Sql, workspace: UUID | None = None) -> Books:
    """Check I1 (credit) and I2 (contacts) over all workspaces, or over one."""
    workspaces, before = await _snapshot(ds, workspace, _WORKSPACES, _LEDGER)
    campaigns, waiting = await _snapshot(salesdb, workspace, _CAMPAIGNS, _UNSETTLED)
    (after,) = await _snapshot(ds, workspace, _LEDGER)
    differences = [
        *_differ("workspace", workspaces, _workspace_claims),
        *_differ("campaign", before, _ledger_claims),
        *_differ("campaign", campaigns, _campaign_claims),
        *_across(_by_id(before), campaigns, _by_id(after)),
    ]
    return Books(len(workspaces), len(campaigns), Unsettled(*waiting[0]), differences)


async def run(settings: Settings, workspace: UUID | None = None) -> Books:
    """Audit the databases that the settings name."""
    ds, salesdb = (asyncpg.create_pool(dsn, min_size=0, max_size=1) for dsn in (settings.ds_dsn, settings.salesdb_dsn))
    async with ds, salesdb:
        return await audit(ds, salesdb, workspace)


async def differences(ds: _Sql, salesdb: _Sql, workspace: UUID) -> list[str]:
    """Violations of I1 and I2 for a workspace, in words; empty if its books balance."""
    return (await audit(ds, salesdb, workspace)).differences


async def is_settled(salesdb: _Sql, workspace: UUID) -> bool:
    """Whether ds has settled all outbox entries of the workspace."""
    query = "SELECT NOT EXISTS (SELECT FROM outbox WHERE workspace_id = $1 AND settled_at IS NULL)"
    return bool(await salesdb.fetchval(query, workspace))


async def _snapshot(database: _Sql, workspace: UUID | None, *queries: str) -> list[list[_Row]]:
    """The results of the queries in one snapshot."""
    if isinstance(database, asyncpg.Pool):
        async with database.acquire() as connection:
            return await _snapshot(connection, workspace, *queries)
    async with database.transaction(isolation="repeatable_read", readonly=True):
        return [await database.fetch(query, workspace) for query in queries]


_Claims: TypeAlias = dict[str, tuple[Any, Any]]


def _differ(kind: str, rows: Sequence[_Row], claims: Callable[[_Row], _Claims]) -> Iterator[str]:
    """The claims whose two values differ, in words."""
    for row in rows:
        for claim, (a, b) in claims(row).items():
            if a != b:
                yield f"{kind} {row['id']}: {claim}: {a} is not {b}"


def _workspace_claims(row: _Row) -> _Claims:
    """I1 in ds: credit and reservations of a workspace agree with its ledger."""
    return {
        "credit = top-ups - charges": (row["credit"], row["topups"] - row["charges"]),
        "reserved = what its reservations hold": (row["reserved"], row["held"]),
    }


def _ledger_claims(row: _Row) -> _Claims:
    """I1 in ds: a reservation agrees with the ledger entries of its campaign."""
    return {
        "reservation = its entry in the ledger": (row["reservation"], row["reserves"]),
        "reservation charged = charges": (row["charged"], row["charges"]),
        "reservation released = releases": (row["released"], row["releases"]),
    }


def _campaign_claims(row: _Row) -> _Claims:
    """I1 and I2 in salesdb: rows of the file, contacts, counters and charges add up.

    A purged or deleted campaign has no contacts to count, only its counters and its charges.
    """
    claims: _Claims = {
        "rows = accepted + rejected + duplicate": (
            row["row_count"],
            row["contact_count"] + row["rejected_count"] + row["duplicate_count"],
        ),
        "accepted = the sum of the counters": (
            row["contact_count"],
            sum(row[f"{status}_count"] for status in _STATUSES),
        ),
        "charged = charges in the outbox": (row["charged"], row["charges"]),
    }
    if row["purged_at"] is not None:  # its counters were compared with its rows before, or its owner has deleted it
        return claims if row["purge_pending"] else {**claims, "a purged campaign has no contacts": (0, row["contacts"])}
    return {
        **claims,
        "accepted = contacts": (row["contact_count"], row["contacts"]),
        **{
            f"{status}_count = contacts that are {status}": (row[f"{status}_count"], row[status])
            for status in _STATUSES
        },
        "charged = cost of sent messages": (row["charged"], row["sent_cost"]),
    }


def _across(before: dict[UUID, _Row], campaigns: Sequence[_Row], after: dict[UUID, _Row]) -> Iterator[str]:
    """I1 across the databases, for each campaign."""
    known = {row["id"] for row in campaigns}
    for campaign_id in before.keys() - known:
        yield f"campaign {campaign_id}: in the ledger, but not in salesdb"
    for row in campaigns:
        name, old, new = f"campaign {row['id']}", before.get(row["id"]), after.get(row["id"])
        if old and old["from_outbox"] > row["owed"]:
            yield f"{name}: the ledger has {old['from_outbox']}, the outbox only {row['owed']}"
        if row["settled"] > (new["from_outbox"] if new else 0):
            yield f"{name}: {row['settled']} settled, the ledger has only {new['from_outbox'] if new else 0}"
        if row["started_at"] and (not new or new["reservation"] != row["total_cost"]):
            yield f"{name}: it runs on a reservation of {new['reservation'] if new else 0}, not {row['total_cost']}"
        if row["completed_at"] and row["owed"] == row["settled"] and new and new["held"]:
            yield f"{name}: it has ended but {new['held']} is still reserved"
        if old and old["held"] and row["status"] in ("created", "scheduled") and row["run_requested_at"] is None:
            yield f"{name}: it is {row['status']} and holds {old['held']}"


def _by_id(rows: Sequence[_Row]) -> dict[UUID, _Row]:
    return {row["id"]: row for row in rows}
