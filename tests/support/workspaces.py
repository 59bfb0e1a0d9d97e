"""Workspaces for tests, made with SQL."""

from decimal import Decimal
from uuid import UUID

import asyncpg


async def new_workspace(ds: asyncpg.Pool, credit: Decimal) -> UUID:
    """A workspace with this credit, and the entry of its ledger."""
    async with ds.acquire() as connection, connection.transaction():
        made: UUID = await connection.fetchval(
            "INSERT INTO workspace (name, credit) VALUES ('test', $1) RETURNING id", credit
        )
        await connection.execute(
            "INSERT INTO ledger (reference, workspace_id, kind, amount) VALUES ($1, $2, 'topup', $3)",
            f"opening:{made}",
            made,
            credit,
        )
    return made
