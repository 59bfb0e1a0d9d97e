"""The worker on `arq:sales_queue`: sends campaigns, relays the outbox, expires messages that stay silent.

    arq salesapi.salesapi.worker_swarm.sales_worker.WorkerSettings

Jobs make it fast, the schedule makes it sure: what must happen is read from salesdb every two seconds, so a job that
Redis has lost is only late.
"""

import asyncio
from typing import Any, ClassVar
from uuid import UUID

import structlog
from arq import cron, func
from arq.cron import CronJob
from prometheus_client import CollectorRegistry

from bulksms import batches, idempotency, lifecycle, outbox
from bulksms.lifecycle import WrongStateError
from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import (
    SALES_QUEUE,
    JobQueue,
    begin_job,
    deserializer,
    every,
    serializer,
    traced,
    use_uvloop,
    worker_redis,
)
from common.observability import heartbeat, logs, metrics, metrics_server, tracing
from common.observability.metrics import SendingMetrics, StateMetrics
from common.settings import load
from common.web.health import Dependency
from rpc import security
from rpc.client import InsufficientCreditError, NotFoundError, RpcClient, RpcError
from salesapi.carrier.http import HttpCarrier
from salesapi.carrier.metered import MeteredCarrier
from salesapi.salesapi import charges, evaluation
from salesapi.salesapi.campaign_runner import CampaignRunner
from salesapi.salesapi.charges import gathering
from salesapi.salesapi.metrics import state_reader
from salesapi.salesapi.sending import RefusalLimit, Sender

log = structlog.get_logger()


async def send_campaign(ctx: dict[str, Any], bulksms_id: str) -> None:
    """Submit batches of the campaign, for some seconds; then another job goes on."""
    if await ctx["sender"].send(UUID(bulksms_id)):
        await ctx["runner"].send(UUID(bulksms_id), lanes=1)


async def settle_outbox(ctx: dict[str, Any], references: list[str]) -> None:
    """Note which entries ds has in its ledger."""
    await outbox.settle(ctx["salesdb"], [UUID(reference) for reference in references])


async def resume_campaigns(ctx: dict[str, Any]) -> None:
    """Find campaigns whose time has come, or whose start, sending or end was cut short; take them up."""
    salesdb, runner = ctx["salesdb"], ctx["runner"]
    if not ctx["carrier"].idempotent:
        await batches.abandon(salesdb)
    for bulksms_id in await batches.unfinished(salesdb):
        await runner.send(bulksms_id)
    ctx["charges"].add(await lifecycle.drop_leftovers(salesdb))
    # Last, and all at once: these wait for rpc, and must not keep the others waiting while it is away.
    await asyncio.gather(
        *(_start(ctx, bulksms_id) for bulksms_id in await lifecycle.due(salesdb, after=10)),
        *(_release(ctx, *one) for one in await lifecycle.unreleased(salesdb)),
    )


async def _start(ctx: dict[str, Any], bulksms_id: UUID) -> None:
    """Start a campaign that nobody waits for; a scheduled one that cannot start says why."""
    try:
        await ctx["runner"].run(bulksms_id)
    except (InsufficientCreditError, NotFoundError) as error:
        log.warning("campaign paused, it cannot start", bulksms_id=str(bulksms_id), reason=str(error))
        await lifecycle.hold(ctx["salesdb"], bulksms_id, f"it could not start: {error}")
    except (WrongStateError, RpcError) as error:
        log.warning("the run cannot be finished", bulksms_id=str(bulksms_id), reason=str(error))


async def _release(ctx: dict[str, Any], bulksms_id: UUID, workspace_id: UUID) -> None:
    """Give back what a campaign held that was cancelled before it started."""
    try:
        await ctx["runner"].release(bulksms_id, workspace_id)
    except RpcError as error:
        log.warning("the release cannot be finished", bulksms_id=str(bulksms_id), reason=str(error))


async def relay_outbox(ctx: dict[str, Any]) -> None:
    """Send again what ds has not settled in time."""
    while entries := await outbox.overdue(ctx["salesdb"], _settings.relay_after):
        log.info("outbox relayed", entries=len(entries))
        ctx["metrics"].relayed.inc(len(entries))
        await charges.send(ctx["jobs"], entries)


async def expire_silent(ctx: dict[str, Any]) -> None:
    """End the wait for messages without news."""
    ctx["metrics"].expired.inc(await ctx["sender"].expire(_settings.message_validity))


async def forget_answers(ctx: dict[str, Any]) -> None:
    """Drop the answers that were kept for idempotency keys a week ago."""
    await idempotency.forget(ctx["salesdb"])


async def generate_system_stat(ctx: dict[str, Any], bulksms_id: str, seconds: float) -> str | None:
    """Sample this machine for `seconds` while a campaign is under way. Returns the path of the report."""
    return await evaluation.sample(ctx["salesdb"], ctx["rpc"], _settings, UUID(bulksms_id), seconds)


async def startup(ctx: dict[str, Any]) -> None:
    """Make the connections; wait for the database."""
    logs.configure(_settings.log_level, "sales_worker")
    tracing.configure(_settings.otel_exporter_otlp_endpoint, "sales_worker")
    ctx["salesdb"] = Database("salesdb", _settings.salesdb_dsn)
    ctx["jobs"] = JobQueue.connect(_settings.redis_url)
    ctx["rpc"] = RpcClient(_settings.rpc_address, _settings.rpc_timeout, security.of_client(_settings))
    registry = metrics.registry()
    ctx["metrics"] = SendingMetrics(registry)
    carrier = HttpCarrier(
        _settings.carrier_url,
        _settings.callback_url,
        _settings.carrier_timeout,
        idempotent=_settings.carrier_idempotent,
    )
    ctx["carrier"] = MeteredCarrier(carrier, ctx["metrics"])
    ctx["charges"] = gathering(ctx["jobs"])
    ctx["sender"] = Sender(
        ctx["salesdb"],
        ctx["carrier"],
        ctx["charges"],
        lanes=_settings.send_lanes,
        lease=_settings.send_lease,
        patience=_settings.send_lease - _settings.carrier_timeout,
        refusal_limit=RefusalLimit(_settings.pause_refused_share, _settings.pause_refused_least),
    )
    ctx["runner"] = CampaignRunner(
        ctx["salesdb"],
        ctx["rpc"],
        ctx["jobs"],
        batch=_settings.send_batch,
        lanes=_settings.send_lanes,
        on_entries=ctx["charges"].add,
    )
    await ctx["salesdb"].open(wait=False)
    ctx["broadcast"] = KrispBroadcast.connect(_settings.redis_url)
    parts = {"salesdb": ctx["salesdb"].check, "redis": ctx["jobs"].check}
    ctx["tasks"] = [
        asyncio.create_task(ctx["charges"].run()),
        asyncio.create_task(_metrics(ctx, registry)),
        asyncio.create_task(heartbeat.beat("sales_worker", ctx["broadcast"], parts)),
    ]
    await ctx["salesdb"].wait()
    logs.ready("sales worker")


async def _metrics(ctx: dict[str, Any], registry: CollectorRegistry) -> None:
    """Serve /metrics and /ready beside the jobs."""
    salesdb, jobs, rpc = ctx["salesdb"], ctx["jobs"], ctx["rpc"]
    parts = {
        "salesdb": Dependency(salesdb.address, salesdb.check),
        "redis": Dependency(jobs.address, jobs.check),
        "rpc": Dependency(_settings.rpc_address, rpc.check),
    }
    refreshes = state_reader(salesdb, jobs, StateMetrics(registry))
    await metrics_server.serve(_settings.metrics_host, _settings.sales_metrics_port, registry, parts, refreshes)


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close the connections."""
    for task in ctx["tasks"]:
        task.cancel()
    await asyncio.gather(*(ctx[name].close() for name in ("carrier", "rpc", "jobs", "broadcast", "salesdb")))


_settings = load()
use_uvloop()


def _often(job: Any) -> CronJob:
    return cron(job, second=every(2), keep_result=0, run_at_startup=True)


class WorkerSettings:
    """How arq runs this worker."""

    functions: ClassVar = [
        func(traced(send_campaign), timeout=60, keep_result=0),
        func(traced(settle_outbox), keep_result=0),
        func(traced(generate_system_stat), timeout=evaluation.LONGEST + 60, keep_result=60),
    ]
    cron_jobs: ClassVar = [
        _often(resume_campaigns),
        _often(relay_outbox),
        _often(expire_silent),
        cron(forget_answers, minute=0, keep_result=0),
    ]
    queue_name = SALES_QUEUE
    redis_pool = worker_redis(_settings.redis_url, SALES_QUEUE)
    job_serializer = serializer
    job_deserializer = deserializer
    on_startup = startup
    on_shutdown = shutdown
    on_job_start = begin_job
    poll_delay = 0.05  # seconds
    max_jobs = 50
    queue_read_limit = 10_000  # a job of a worker that was killed stays at the head for some minutes
    job_timeout = 30  # seconds
