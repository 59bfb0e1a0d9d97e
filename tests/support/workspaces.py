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
