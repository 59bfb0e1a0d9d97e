"""The floor: the time that PostgreSQL alone needs for a campaign, a lower bound for every design on these rows.

COPY of the rows, two guarded batched updates of each (`sent`, `delivered`), and a ledger entry for each batch, over two
connections, in large batches, with durable settings, and without our processes.
"""

import asyncio
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import asyncpg

_BATCH = 5_000

_TABLES = """
    DROP TABLE IF EXISTS floor_info, floor_ledger;
    CREATE TABLE floor_info (LIKE bulksms_info INCLUDING ALL) WITH (fillfactor = 60);
    CREATE TABLE floor_ledger (id bigserial PRIMARY KEY, bulksms_id uuid NOT NULL, amount numeric(15, 1) NOT NULL);
"""

_UPDATE = """
    WITH stepped AS (
        UPDATE floor_info AS info SET sms_status = $3::text::sms_status, modified_at = now()
        FROM unnest($2::integer[]) AS report (seq)
        WHERE info.bulksms_id = $1 AND info.seq = report.seq AND info.sms_status < $3::text::sms_status
        RETURNING sms_cost
    )
    INSERT INTO floor_ledger (bulksms_id, amount) SELECT $1, sum(sms_cost) FROM stepped
"""


async def measure(dsn: str, messages: int) -> float:
    """Measure messages per second."""
    async with asyncpg.create_pool(dsn, min_size=2, max_size=2) as pool:
        await pool.execute(_TABLES)
        campaign = uuid4()
        started_at = time.perf_counter()
        await pool.copy_records_to_table(
            "floor_info",
            columns=("bulksms_id", "seq", "contact_number", "contact_name", "sms_cost"),
            records=((campaign, seq, f"+35840{seq:07d}", f"Contact {seq}", 0) for seq in range(messages)),
        )
        for status in ("sent", "delivered"):
            batches = iter(range(0, messages, _BATCH))
            await asyncio.gather(*(_update(pool, campaign, status, batches, messages) for _ in range(2)))
        seconds = time.perf_counter() - started_at
        await pool.execute("DROP TABLE floor_info, floor_ledger")
    return messages / seconds


async def _update(pool: asyncpg.Pool, campaign: UUID, status: str, batches: Iterator[int], messages: int) -> None:
    for first in batches:
        await pool.execute(_UPDATE, campaign, range(first, min(first + _BATCH, messages)), status)
