"""The worker on `arq:general_queue`: every change of credit but a reservation, and the news of it.

arq webapi.webapi.worker_swarm.general_worker.WorkerSettings
"""

import asyncio
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

import structlog
from arq import func

from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import (
    Gathering,
    JobQueue,
    JobsUnavailableError,
    begin_job,
    deserializer,
    serializer,
    traced,
    use_uvloop,
    worker_redis,
)
from common.observability import heartbeat, logs, metrics, metrics_server, tracing
from common.observability.counters import counters
from common.settings import load
from common.topology import GENERAL_QUEUE, SALES_QUEUE, SETTLE_OUTBOX, SETTLED
from common.web.health import Dependency
from webapi.webapi import credit_events
from webapi.webapi.metrics import CreditMetrics
from workspace import credit
from workspace.credit import Entry, WorkspaceNotFoundError

log = structlog.get_logger()


async def deduct_credit(ctx: dict[str, Any], entries: list[dict[str, str]]) -> None:
    """Carry outbox entries (charges, and the releases at a campaign's end) into the ledger, each once.

    What is settled is told to the sales worker; what is not is sent again by it.
    """
    changed, settled = await credit.deduct(
        ctx["ds"],
        [
            Entry(e["reference"], UUID(e["workspace_id"]), UUID(e["campaign_id"]), e["kind"], Decimal(e["amount"]))
            for e in entries
        ],
    )
    counters[SETTLED] += len(settled)
    for now in changed:
        await credit_events.publish(ctx["broadcast"], now)
    if len(settled) < len(entries):
        log.error(
            "charges beyond the credit, or of no workspace, stay in the outbox", entries=len(entries) - len(settled)
        )
    ctx["metrics"].entries.labels("settled").inc(len(settled))
    ctx["metrics"].entries.labels("refused").inc(len(entries) - len(settled))
    ctx["settled"].add(settled)


def tell_settled(jobs: JobQueue) -> Gathering[str]:
    """Tells the sales worker which entries are settled: no hurry, since only their repetition depends on it."""

    async def send(references: list[str]) -> None:
        try:
            await jobs.send(SALES_QUEUE, SETTLE_OUTBOX, references)
        except JobsUnavailableError as error:
            log.warning("settled entries not told, they will be sent again", reason=str(error))

    return Gathering(send, period=0.25)


async def topup_credit(ctx: dict[str, Any], workspace_id: str, amount: str, reference: str) -> dict[str, Any] | None:
    """Add `amount` credits, once per reference. Returns the credit afterwards; None if there is no such workspace."""
    try:
        now = await credit.top_up(ctx["ds"], UUID(workspace_id), Decimal(amount), reference)
    except WorkspaceNotFoundError:
        return None
    log.info("credit topped up", workspace_id=workspace_id, amount=amount, reference=reference)
    await credit_events.publish(ctx["broadcast"], now)
    return {
        "workspace_id": workspace_id,
        "credit": str(now.credit),
        "available": str(now.available),
        "version": now.version,
    }


async def startup(ctx: dict[str, Any]) -> None:
    """Make the connections; wait for the database."""
    logs.configure(_settings.log_level, "general_worker")
    tracing.configure(_settings.otel_exporter_otlp_endpoint, "general_worker")
    ctx["ds"] = Database("ds", _settings.ds_dsn)
    ctx["broadcast"] = KrispBroadcast.connect(_settings.redis_url)
    ctx["jobs"] = JobQueue.connect(_settings.redis_url)
    ctx["settled"] = tell_settled(ctx["jobs"])
    registry = metrics.registry()
    ctx["metrics"] = CreditMetrics(registry)
    await ctx["ds"].open(wait=False)
    parts = {
        "ds": Dependency(ctx["ds"].address, ctx["ds"].check),
        "redis": Dependency(ctx["jobs"].address, ctx["jobs"].check),
    }
    checks = {name: part.check for name, part in parts.items()}
    ctx["tasks"] = [
        asyncio.create_task(ctx["settled"].run()),
        asyncio.create_task(
            metrics_server.serve(_settings.metrics_host, _settings.general_metrics_port, registry, parts)
        ),
        asyncio.create_task(heartbeat.run("general_worker", ctx["broadcast"], checks)),
    ]
    await ctx["ds"].wait()
    logs.ready("general worker")


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close the connections."""
    for task in ctx["tasks"]:
        task.cancel()
    await asyncio.gather(ctx["broadcast"].close(), ctx["jobs"].close(), ctx["ds"].close())


_settings = load()
use_uvloop()


class WorkerSettings:
    """How arq runs this worker."""

    functions: ClassVar = [func(traced(deduct_credit), keep_result=0), traced(topup_credit)]
    queue_name = GENERAL_QUEUE
    redis_pool = worker_redis(_settings.redis_url, GENERAL_QUEUE)
    job_serializer = serializer
    job_deserializer = deserializer
    on_startup = startup
    on_shutdown = shutdown
    on_job_start = begin_job
    poll_delay = 0.025  # seconds; how late a charge may be seen on the WebSocket
    max_jobs = 10
    job_timeout = 30  # seconds; a job of a worker that was killed is free again 10 s later
    keep_result = 60  # seconds; the answer of a top-up
