"""Checks the invariants of the design with plain SQL on both databases and the carrier's own count."""

from decimal import Decimal
from uuid import UUID

import asyncpg

from tests.client import Client
from tests.conftest import until

_STATUSES = ("queued", "sent", "failed", "delivered", "undelivered")


async def check_books(client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID) -> None:
    """I1, I2 and I5 for a workspace whose campaigns have ended."""
    await until(lambda: settled(salesdb, workspace))
    await check_credit(ds, salesdb, workspace)
    await check_contacts(salesdb, workspace)
    stats = await client.carrier_stats()
    assert stats["most_per_message"] <= 1, "I5: a phone got a message twice"


async def settled(salesdb: asyncpg.Pool, workspace: UUID) -> bool:
    """Whether ds has all that salesdb owes."""
    open_entries = await salesdb.fetchval(
        "SELECT count(*) FROM outbox WHERE workspace_id = $1 AND settled_at IS NULL", workspace
    )
    return open_entries == 0


async def check_credit(ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID) -> None:
    """I1: what was put in is what is there and what has left; nothing stays reserved; the ledger says the same."""
    now = await ds.fetchrow("SELECT credit, reserved FROM workspace WHERE id = $1", workspace)
    ledger = dict(
        await ds.fetch("SELECT kind, sum(amount) FROM ledger WHERE workspace_id = $1 GROUP BY kind", workspace)
    )
    left = await salesdb.fetchval(
        """
        SELECT coalesce(sum(sms_cost), 0) FROM bulksms_info JOIN bulksms ON bulksms.id = bulksms_info.bulksms_id
        WHERE workspace_id = $1 AND sms_status IN ('sent', 'delivered', 'undelivered')
        """,
        workspace,
    )
    assert ledger["topup"] == now["credit"] + left
    assert ledger.get("charge", Decimal(0)) == left
    assert now["reserved"] == 0
    assert ledger.get("reserve", Decimal(0)) == left + ledger.get("release", Decimal(0))


async def check_contacts(salesdb: asyncpg.Pool, workspace: UUID) -> None:
    """I2: rows of the file, contacts and counters add up."""
    for campaign in await salesdb.fetch("SELECT * FROM bulksms WHERE workspace_id = $1", workspace):
        counts = dict(
            await salesdb.fetch(
                "SELECT sms_status::text, count(*) FROM bulksms_info WHERE bulksms_id = $1 GROUP BY 1", campaign["id"]
            )
        )
        assert {s: campaign[f"{s}_count"] for s in _STATUSES} == {s: counts.get(s, 0) for s in _STATUSES}
        assert campaign["contact_count"] == sum(counts.values())
        assert campaign["row_count"] == (
            campaign["contact_count"] + campaign["rejected_count"] + campaign["duplicate_count"]
        )
