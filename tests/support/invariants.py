"""Checks the invariants of the design with SQL on both databases and the carrier's count."""

from uuid import UUID

import asyncpg

from rpc import audit
from tests.support.client import Client
from tests.support.polling import until


async def check_invariants(client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID) -> None:
    """Check I1, I2 and I5 for a workspace whose campaigns have ended."""
    await until(lambda: audit.is_settled(salesdb, workspace))
    assert await violations(client, ds, salesdb, workspace) == []


async def violations(client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID) -> list[str]:
    """Describe the violations of I1, I2 and I5."""
    violated = await audit.differences(ds, salesdb, workspace)
    if (most := (await client.carrier_stats())["most_per_message"]) > 1:
        violated.append(f"I5: a phone got a message {most} times")
    return violated
