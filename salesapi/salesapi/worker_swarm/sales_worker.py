"""The worker on `arq:sales_queue`: sends campaigns, relays the outbox, expires messages that stay silent.

    arq salesapi.salesapi.worker_swarm.sales_worker.WorkerSettings

Jobs make it fast, the schedule makes it sure: what must happen is read from salesdb every two seconds, so a job that
Redis has lost is only late.
"""

import asyncio
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import structlog
from arq import cron, func
from arq.cron import CronJob

from bulksms import batches, cancellation, idempotency, lifecycle, outbox
from bulksms.lifecycle import WrongStateError
from bulksms.outbox import Entry
from common import arq_worker
from common.arq_worker import decode_job, every, job
from common.batcher import Batcher
from common.database import Database
from common.jobs import JobQueue, encode, patient_redis
from common.runtime import Runtime
from common.settings import load
from common.topology import SALES_QUEUE
from rpc import security
from rpc.client import InsufficientCreditError, NotFoundError, RpcClient, RpcError
from salesapi.carrier.http import HttpCarrier
from salesapi.carrier.metered import MeteredCarrier
from salesapi.carrier.metrics import CarrierMetrics
from salesapi.salesapi import charges, evaluation
from salesapi.salesapi.campaign_runner import CampaignRunner
from salesapi.salesapi.charges import charge_batcher
from salesapi.salesapi.metrics import SendingMetrics, StateMetrics, state_reader
from salesapi.salesapi.sending import RefusalLimit, Sender

log = structlog.get_logger()


class Parts(NamedTuple):
    """What the jobs work with."""

    salesdb: Database
    jobs: JobQueue
    rpc: RpcClient
    carrier: MeteredCarrier
    charges: Batcher[Entry]
    sender: Sender
    runner: CampaignRunner
    metrics: SendingMetrics


async def send_campaign(ctx: dict[str, Any], bulksms_id: str) -> None:
    """Submit batches of the campaign, for some seconds; then another job goes on."""
    parts: Parts = ctx["parts"]
    if await parts.sender.send(UUID(bulksms_id)):
        await parts.runner.send(UUID(bulksms_id), lanes=1)


async def settle_outbox(ctx: dict[str, Any], references: list[str]) -> None:
    """Note which entries ds has in its ledger."""
    parts: Parts = ctx["parts"]
    await outbox.settle(parts.salesdb, [UUID(reference) for reference in references])


async def resume_campaigns(ctx: dict[str, Any]) -> None:
    """Find campaigns whose time has come, or whose start, sending or end was cut short; take them up."""
    parts: Parts = ctx["parts"]
    salesdb, runner = parts.salesdb, parts.runner
    if not parts.carrier.idempotent:
        await batches.mark_abandoned(salesdb)
    for bulksms_id in await batches.campaigns_to_send(salesdb):
        await runner.send(bulksms_id)
    parts.charges.add(await cancellation.close_unsent(salesdb))
    # Last, and all at once: these wait for rpc, and must not keep the others waiting while it is away.
    await asyncio.gather(
        *(_start(ctx, bulksms_id) for bulksms_id in await lifecycle.campaigns_to_start(salesdb, after=10)),
        *(_release(ctx, *one) for one in await cancellation.reservations_to_release(salesdb)),
    )


async def _start(ctx: dict[str, Any], bulksms_id: UUID) -> None:
    """Start a campaign that nobody waits for; a scheduled one that cannot start says why."""
    parts: Parts = ctx["parts"]
    try:
        await parts.runner.run(bulksms_id)
    except (InsufficientCreditError, NotFoundError) as error:
        log.warning("campaign paused, it cannot start", bulksms_id=str(bulksms_id), reason=str(error))
        await lifecycle.pause_scheduled(parts.salesdb, bulksms_id, f"it could not start: {error}")
    except (WrongStateError, RpcError) as error:
        log.warning("the run cannot be finished", bulksms_id=str(bulksms_id), reason=str(error))


async def _release(ctx: dict[str, Any], bulksms_id: UUID, workspace_id: UUID) -> None:
    """Give back what a campaign held that was cancelled before it started."""
    parts: Parts = ctx["parts"]
    try:
        await parts.runner.release(bulksms_id, workspace_id)
    except RpcError as error:
        log.warning("the release cannot be finished", bulksms_id=str(bulksms_id), reason=str(error))


async def relay_outbox(ctx: dict[str, Any]) -> None:
    """Send again what ds has not settled in time."""
    parts: Parts = ctx["parts"]
    while entries := await outbox.overdue(parts.salesdb, _settings.relay_after):
        log.info("outbox relayed", entries=len(entries))
        parts.metrics.relayed.inc(len(entries))
        await charges.send(parts.jobs, entries)


async def expire_silent(ctx: dict[str, Any]) -> None:
    """End the wait for messages without news."""
    parts: Parts = ctx["parts"]
    parts.metrics.expired.inc(await parts.sender.expire(_settings.message_validity))


async def forget_answers(ctx: dict[str, Any]) -> None:
    """Drop the answers that were kept for idempotency keys a week ago."""
    parts: Parts = ctx["parts"]
    await idempotency.delete_expired(parts.salesdb)


async def generate_system_stat(ctx: dict[str, Any], bulksms_id: str, seconds: float) -> str | None:
    """Sample this machine for `seconds` while a campaign is under way. Returns the path of the report."""
    parts: Parts = ctx["parts"]
    return await evaluation.sample(parts.salesdb, parts.rpc, _settings, UUID(bulksms_id), seconds)


async def startup(ctx: dict[str, Any]) -> None:
    """Put the worker together; wait for the database."""
    settings = _settings
    runtime = Runtime("sales_worker", settings)
    salesdb, jobs = runtime.database("salesdb", settings.salesdb_dsn), runtime.jobs()
    rpc = runtime.need("rpc", RpcClient(settings.rpc_address, settings.rpc_timeout, security.of_client(settings)))
    metrics = SendingMetrics(runtime.registry)
    carrier = runtime.own(
        MeteredCarrier(
            HttpCarrier(
                settings.carrier_url,
                settings.callback_url,
                settings.carrier_timeout,
                idempotent=settings.carrier_idempotent,
            ),
            CarrierMetrics(runtime.registry),
        )
    )
    charges = charge_batcher(jobs)
    sender = Sender(
        salesdb,
        carrier,
        charges,
        lanes=settings.send_lanes,
        lease=settings.send_lease,
        patience=settings.send_lease - settings.carrier_timeout,
        refusal_limit=RefusalLimit(settings.pause_refused_share, settings.pause_refused_least),
    )
    runner = CampaignRunner(
        salesdb, rpc, jobs, batch=settings.send_batch, lanes=settings.send_lanes, on_entries=charges.add
    )
    runtime.task("charges", charges.run)
    runtime.serve_metrics(settings.sales_metrics_port, state_reader(salesdb, jobs, StateMetrics(runtime.registry)))
    ctx["parts"] = Parts(salesdb, jobs, rpc, carrier, charges, sender, runner, metrics)
    await arq_worker.start(ctx, runtime, first=["salesdb"])


_settings = load()
arq_worker.use_uvloop()


def _often(work: Any) -> CronJob:
    return cron(job(work), second=every(2), keep_result=0, run_at_startup=True)


class WorkerSettings:
    """How arq runs this worker."""

    functions: ClassVar = [
        func(job(send_campaign), timeout=60, keep_result=0),
        func(job(settle_outbox), keep_result=0),
        func(job(generate_system_stat), timeout=evaluation.LONGEST + 60, keep_result=60),
    ]
    cron_jobs: ClassVar = [
        _often(resume_campaigns),
        _often(relay_outbox),
        _often(expire_silent),
        cron(job(forget_answers), minute=0, keep_result=0),
    ]
    queue_name = SALES_QUEUE
    redis_pool = patient_redis(_settings.redis_url, SALES_QUEUE)
    job_serializer = encode
    job_deserializer = decode_job
    on_startup = startup
    on_shutdown = arq_worker.stop
    poll_delay = 0.05  # seconds
    max_jobs = 50
    queue_read_limit = 10_000  # a job of a worker that was killed stays at the head for some minutes
    job_timeout = 30  # seconds
