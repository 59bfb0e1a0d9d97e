"""Workspaces for tests, created with SQL."""

from decimal import Decimal
from uuid import UUID

import asyncpg


async def new_workspace(ds: asyncpg.Pool, credit: Decimal) -> UUID:
    """Create a workspace with this credit and its ledger entry; return its id."""
    async with ds.acquire() as connection, connection.transaction():
        workspace_id: UUID = await connection.fetchval(
            "INSERT INTO workspace (name, credit) VALUES ('test', $1) RETURNING id", credit
        )
        await connection.execute(
            "INSERT INTO ledger (reference, workspace_id, kind, amount) VALUES ($1, $2, 'topup', $3)",
            f"opening:{workspace_id}",
            workspace_id,
            credit,
        )
    return workspace_id


async def hand_over(salesdb: asyncpg.Pool, bulksms_id: str) -> None:
    """Make a campaign's messages ones that may have left, though no carrier has them: then only the test reports."""
    await salesdb.execute(
        "INSERT INTO bulksms_batch (bulksms_id, batch_no, first_seq, last_seq, state, attempt, submitted_at) "
        "SELECT id, 0, 0, contact_count - 1, 'submitted', 1, now() FROM bulksms WHERE id = $1",
        UUID(bulksms_id),
    )
