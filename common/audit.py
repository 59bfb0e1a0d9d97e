"""The books of a workspace whose campaigns have ended, checked with plain SQL on both databases, from outside.

It knows the tables and nothing else of ours, so that it cannot share a mistake with the code that wrote them.
"""

from decimal import Decimal
from typing import TypeAlias
from uuid import UUID

import asyncpg

from common.database import Connection

_STATUSES = ("queued", "sent", "failed", "delivered", "undelivered")

_Sql: TypeAlias = "asyncpg.Pool | Connection"  # whatever takes a query

_COUNTS = """
    SELECT bulksms_id, sms_status::text, count(*), sum(sms_cost) AS cost
    FROM bulksms_info JOIN bulksms ON bulksms.id = bulksms_info.bulksms_id
    WHERE workspace_id = $1
    GROUP BY bulksms_id, sms_status
"""


async def settled(salesdb: _Sql, workspace: UUID) -> bool:
    """Whether ds has all that salesdb owes."""
    query = "SELECT NOT EXISTS (SELECT FROM outbox WHERE workspace_id = $1 AND settled_at IS NULL)"
    return bool(await salesdb.fetchval(query, workspace))


async def differences(ds: _Sql, salesdb: _Sql, workspace: UUID) -> list[str]:
    """What of I1 (credit) and I2 (contacts) does not hold, in words; empty if the books balance."""
    counts = await salesdb.fetch(_COUNTS, workspace)
    found = [*await _credit(ds, workspace, sum((row["cost"] for row in counts if _left(row)), Decimal(0)))]
    for campaign in await salesdb.fetch("SELECT * FROM bulksms WHERE workspace_id = $1", workspace):
        rows = {row["sms_status"]: row["count"] for row in counts if row["bulksms_id"] == campaign["id"]}
        found += _contacts(campaign, rows)
    return found


def _left(row: asyncpg.Record) -> bool:
    return row["sms_status"] in ("sent", "delivered", "undelivered")


async def _credit(ds: _Sql, workspace: UUID, left: Decimal) -> list[str]:
    """I1: what was put in is what is there and what has left; nothing stays reserved; the ledger says the same."""
    now = await ds.fetchrow("SELECT credit, reserved FROM workspace WHERE id = $1", workspace)
    assert now is not None, f"there is no workspace {workspace}"
    ledger = dict.fromkeys(("topup", "charge", "reserve", "release"), Decimal(0))
    query = "SELECT kind, sum(amount) AS amount FROM ledger WHERE workspace_id = $1 GROUP BY kind"
    for row in await ds.fetch(query, workspace):
        ledger[row["kind"]] = row["amount"]
    claims = {
        "top-ups = credit + cost of what has left": (ledger["topup"], now["credit"] + left),
        "charges = cost of what has left": (ledger["charge"], left),
        "reserved = 0": (now["reserved"], Decimal(0)),
        "reservations = charges + releases": (ledger["reserve"], left + ledger["release"]),
    }
    return [f"workspace {workspace}: {claim}: {a} is not {b}" for claim, (a, b) in claims.items() if a != b]


def _contacts(campaign: asyncpg.Record, rows: dict[str, int]) -> list[str]:
    """I2: rows of the file, contacts and counters add up."""
    claims = {f"{status}_count": (campaign[f"{status}_count"], rows.get(status, 0)) for status in _STATUSES}
    claims["contact_count"] = (campaign["contact_count"], sum(rows.values()))
    claims["row_count"] = (
        campaign["row_count"],
        campaign["contact_count"] + campaign["rejected_count"] + campaign["duplicate_count"],
    )
    return [f"campaign {campaign['id']}: {claim}: {a} is not {b}" for claim, (a, b) in claims.items() if a != b]
