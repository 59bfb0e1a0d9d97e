"""The worker on `arq:sales_queue`: sends campaigns, relays the outbox, expires messages without a final report.

    arq salesapi.salesapi.worker_swarm.sales_worker.WorkerSettings

Jobs are the fast path; the schedule reads pending work from salesdb every two seconds, so a job lost by Redis is only
late.
"""

import asyncio
from typing import Annotated, Any, ClassVar, NamedTuple
from uuid import UUID

import structlog
from arq import cron, func
from arq.cron import CronJob
from msgspec import Meta

from bulksms import batches, cancellation, idempotency, lifecycle, outbox, retention
from bulksms.campaigns import CampaignNotFoundError
from bulksms.lifecycle import WrongStateError
from bulksms.outbox import Entry
from common import arq_worker, audit_log
from common.arq_worker import decode_job, every, job
from common.batcher import Batcher
from common.database import Database
from common.jobs import JobQueue, encode, worker_redis
from common.observability.counters import count_failure
from common.runtime import Runtime
from common.settings import load
from common.topology import SALES_QUEUE, SALES_WORKER
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

_ACTOR = audit_log.worker(SALES_WORKER)
_PURGE_TIME = 4.0  # seconds of the five between two runs


class Services(NamedTuple):
    """The objects that the jobs use."""

    salesdb: Database
    jobs: JobQueue
    rpc: RpcClient
    carrier: MeteredCarrier
    charges: Batcher[Entry]
    sender: Sender
    runner: CampaignRunner
    metrics: SendingMetrics


async def send_campaign(ctx: dict[str, Any], bulksms_id: UUID) -> None:
    """Submit batches of the campaign for some seconds, then queue a job for the rest."""
    services: Services = ctx["services"]
    try:
        has_more = await services.sender.send(bulksms_id)
    except CampaignNotFoundError as error:
        count_failure("queue", "job of an unknown campaign")
        log.error("dropped a job", job="send_campaign", reason=str(error))
        return
    if has_more:
        await services.runner.send(bulksms_id, concurrency=1)


async def settle_outbox(ctx: dict[str, Any], references: list[UUID]) -> None:
    """Record which outbox entries the ledger in ds contains."""
    services: Services = ctx["services"]
    await outbox.settle(services.salesdb, references)


async def resume_campaigns(ctx: dict[str, Any]) -> None:
    """Start campaigns that are due, and continue starts, sending and cancellations that were interrupted."""
    services: Services = ctx["services"]
    salesdb, runner = services.salesdb, services.runner
    if not services.carrier.idempotent:
        await batches.mark_abandoned(salesdb)
    for bulksms_id in await batches.campaigns_to_send(salesdb):
        await runner.send(bulksms_id)
    services.charges.add(await cancellation.close_unsent(salesdb))
    # Last and concurrently: these wait for rpc, and must not delay the steps above while it is unavailable.
    await asyncio.gather(
        *(_start(ctx, bulksms_id) for bulksms_id in await lifecycle.campaigns_to_start(salesdb, after=10)),
        *(_release(ctx, *ids) for ids in await cancellation.reservations_to_release(salesdb)),
    )


async def _start(ctx: dict[str, Any], bulksms_id: UUID) -> None:
    """Start a campaign; a scheduled one that cannot start is paused with the reason."""
    services: Services = ctx["services"]
    try:
        await services.runner.run(bulksms_id, _ACTOR)
    except (InsufficientCreditError, NotFoundError) as error:
        log.warning("campaign paused, it could not start", bulksms_id=str(bulksms_id), reason=str(error))
        await lifecycle.pause_scheduled(services.salesdb, bulksms_id, f"the campaign could not start: {error}", _ACTOR)
    except (WrongStateError, RpcError) as error:
        log.warning("campaign not started", bulksms_id=str(bulksms_id), reason=str(error))


async def _release(ctx: dict[str, Any], bulksms_id: UUID, workspace_id: UUID) -> None:
    """Release the reservation of a campaign that was cancelled before it started."""
    services: Services = ctx["services"]
    try:
        await services.runner.release(bulksms_id, workspace_id)
    except RpcError as error:
        log.warning("reservation not released", bulksms_id=str(bulksms_id), reason=str(error))


async def relay_outbox(ctx: dict[str, Any]) -> None:
    """Send outbox entries again that ds has not settled in time."""
    services: Services = ctx["services"]
    while entries := await outbox.overdue(services.salesdb, _settings.relay_after):
        log.info("outbox relayed", entries=len(entries))
        services.metrics.relayed.inc(len(entries))
        await charges.send(services.jobs, entries)


async def expire_messages(ctx: dict[str, Any]) -> None:
    """Mark messages without a final report `undelivered` after their validity."""
    services: Services = ctx["services"]
    services.metrics.expired.inc(await services.sender.expire(_settings.message_validity))


async def delete_idempotency_keys(ctx: dict[str, Any]) -> None:
    """Delete idempotency keys that are older than a week."""
    services: Services = ctx["services"]
    await idempotency.delete_expired(services.salesdb)


async def purge_campaigns(ctx: dict[str, Any]) -> None:
    """Delete the rows of campaigns that were deleted, and the personal data of those whose retention has ended."""
    services: Services = ctx["services"]
    purged = await retention.purge(services.salesdb, _settings.retention_days, _PURGE_TIME, _ACTOR)
    if purged:
        log.info("campaigns purged", campaigns=purged)


async def generate_system_stat(
    ctx: dict[str, Any], bulksms_id: UUID, seconds: Annotated[float, Meta(gt=0, le=3_600)]
) -> str | None:
    """Sample this machine for `seconds` while a campaign runs; returns the path of the report."""
    services: Services = ctx["services"]
    return await evaluation.sample(services.salesdb, services.rpc, _settings, bulksms_id, seconds)


async def startup(ctx: dict[str, Any]) -> None:
    """Create the services of the worker and wait for the database."""
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
        concurrency=settings.send_concurrency,
        lease=settings.send_lease,
        submit_within=settings.send_lease - settings.carrier_timeout,
        refusal_limit=RefusalLimit(settings.pause_refused_share, settings.pause_refused_minimum),
    )
    runner = CampaignRunner(
        salesdb,
        rpc,
        jobs,
        batch_size=settings.send_batch,
        concurrency=settings.send_concurrency,
        on_entries=charges.add,
    )
    runtime.task("charges", charges.run)
    runtime.serve_metrics(settings.sales_metrics_port, state_reader(salesdb, jobs, StateMetrics(runtime.registry)))
    ctx["services"] = Services(salesdb, jobs, rpc, carrier, charges, sender, runner, metrics)
    await arq_worker.start(ctx, runtime, first=["salesdb"])


_settings = load()
arq_worker.use_uvloop()


def _every_two_seconds(work: Any) -> CronJob:
    return cron(job(work), second=every(2), keep_result=0, run_at_startup=True)


class WorkerSettings:
    """How arq runs this worker."""

    functions: ClassVar = [
        func(job(send_campaign), timeout=60, keep_result=0),
        func(job(settle_outbox), keep_result=0),
        func(job(generate_system_stat), timeout=evaluation.MAX_SECONDS + 60, keep_result=60),
    ]
    cron_jobs: ClassVar = [
        _every_two_seconds(resume_campaigns),
        _every_two_seconds(relay_outbox),
        _every_two_seconds(expire_messages),
        cron(job(delete_idempotency_keys), minute=0, keep_result=0),
        cron(job(purge_campaigns), second=every(5), keep_result=0, run_at_startup=True),
    ]
    queue_name = SALES_QUEUE
    redis_pool = worker_redis(_settings.redis_url, SALES_QUEUE)
    job_serializer = encode
    job_deserializer = decode_job
    on_startup = startup
    on_shutdown = arq_worker.stop
    poll_delay = 0.05  # seconds
    max_jobs = 50
    queue_read_limit = 10_000  # jobs of a killed worker stay at the head of the queue for some minutes
    job_timeout = 30  # seconds
