"""The naive design, as the baseline: an arq job for each status of each message, each with statements of its own.

A job finds its row by campaign and number (SELECT), inserts or updates it in its own transaction, and for a message
that left takes its price from the workspace with an UPDATE. It is given every advantage that leaves it the same design:
no HTTP before it, no artificial delay, asyncpg without an ORM, an index, a pool, the fastest polling arq allows.

    arq benchmarks.seed_design.WorkerSettings        # its worker, with DS_DSN, SALESDB_DSN, REDIS_URL set
"""

import asyncio
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID, uuid4

import asyncpg
from arq import create_pool, func
from arq.connections import RedisSettings

from benchmarks.bench import until
from common.settings import ROOT

_QUEUE = "arq:seed_design"

_TABLES = """
    DROP TABLE IF EXISTS seed_info;
    CREATE TABLE seed_info (
        id bigserial PRIMARY KEY, bulksms_id uuid NOT NULL, contact_number text NOT NULL, sms_status text NOT NULL,
        sms_cost numeric(15, 1) NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
        modified_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX ON seed_info (bulksms_id, contact_number);
"""
_WORKSPACE = """
    DROP TABLE IF EXISTS seed_workspace;
    CREATE TABLE seed_workspace (id uuid PRIMARY KEY, credit numeric(15, 1) NOT NULL);
"""


async def take_status(ctx: dict[str, Any], workspace_id: str, bulksms_id: str, number: str, status: str) -> None:
    """What the naive callback does for one status of one message."""
    async with ctx["salesdb"].acquire() as connection, connection.transaction():
        row = await connection.fetchval(
            "SELECT id FROM seed_info WHERE bulksms_id = $1 AND contact_number = $2", UUID(bulksms_id), number
        )
        if row is None:
            await connection.execute(
                "INSERT INTO seed_info (bulksms_id, contact_number, sms_status, sms_cost) VALUES ($1, $2, $3, 0.1)",
                UUID(bulksms_id),
                number,
                status,
            )
        else:
            await connection.execute(
                "UPDATE seed_info SET sms_status = $2, modified_at = now() WHERE id = $1", row, status
            )
    if status == "sent":
        async with ctx["ds"].acquire() as connection:
            await connection.execute(
                "UPDATE seed_workspace SET credit = credit - 0.1 WHERE id = $1", UUID(workspace_id)
            )


async def startup(ctx: dict[str, Any]) -> None:
    ctx["salesdb"] = await asyncpg.create_pool(os.environ["SALESDB_DSN"], min_size=10, max_size=10)
    ctx["ds"] = await asyncpg.create_pool(os.environ["DS_DSN"], min_size=10, max_size=10)


class WorkerSettings:
    """How arq runs it."""

    functions: ClassVar = [func(take_status, keep_result=0)]
    queue_name = _QUEUE
    redis_settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://localhost:6379"))
    on_startup = startup
    max_jobs = 10
    poll_delay = 0.001
    queue_read_limit = 1_000


async def measure(environ: dict[str, str], messages: int, log: Path) -> float:
    """Messages a second, from the first job to the last row final and the last tenth taken."""
    workspace, campaign = uuid4(), uuid4()
    ds, salesdb = await asyncpg.connect(environ["DS_DSN"]), await asyncpg.connect(environ["SALESDB_DSN"])
    await ds.execute(_WORKSPACE)
    await ds.execute("INSERT INTO seed_workspace VALUES ($1, $2)", workspace, messages)
    await salesdb.execute(_TABLES)
    with log.open("ab") as output:
        worker = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("arq")),
            "benchmarks.seed_design.WorkerSettings",
            cwd=ROOT,
            env=environ,
            stdout=output,
            stderr=output,
        )
    redis = await create_pool(RedisSettings.from_dsn(environ["REDIS_URL"]), default_queue_name=_QUEUE)

    async def taken(status: str) -> bool:
        query = "SELECT count(*) FROM seed_info WHERE sms_status = $1"
        return bool(await salesdb.fetchval(query, status) == messages)

    async def charged() -> bool:
        return bool(await ds.fetchval("SELECT credit * 10 FROM seed_workspace") == messages * 9)

    async def send(status: str, first: int, last: int) -> None:
        jobs = (
            redis.enqueue_job("take_status", str(workspace), str(campaign), f"+35840{n:07d}", status)
            for n in range(first, last)
        )
        await asyncio.gather(*jobs)

    try:
        await asyncio.sleep(2)  # the worker starts
        begun = time.perf_counter()
        for status in ("sent", "delivered"):
            for first in range(0, messages, 500):
                await send(status, first, min(first + 500, messages))
            await until(partial(taken, status), timeout=600)
        await until(charged)
        seconds = time.perf_counter() - begun
    finally:
        worker.terminate()
        await asyncio.gather(worker.wait(), redis.aclose(close_connection_pool=True), ds.close(), salesdb.close())
    return messages / seconds
