"""The worker on `arq:general_queue`: every change of credit but a reservation, and the news of it.

arq webapi.webapi.worker_swarm.general_worker.WorkerSettings
"""

from decimal import Decimal
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import structlog
from arq import func

from common import arq_worker
from common.arq_worker import decode_job, job
from common.batcher import Batcher
from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import JobQueue, JobsUnavailableError, encode, worker_redis
from common.observability.counters import counters
from common.runtime import Runtime
from common.settings import load
from common.topology import GENERAL_QUEUE, SALES_QUEUE, SETTLE_OUTBOX, SETTLED
from webapi.webapi import credit_events
from webapi.webapi.metrics import CreditMetrics
from workspace import credit
from workspace.credit import Entry, WorkspaceNotFoundError

log = structlog.get_logger()


class Parts(NamedTuple):
    """What the jobs work with."""

    ds: Database
    broadcast: KrispBroadcast
    settled: Batcher[str]
    metrics: CreditMetrics


async def deduct_credit(ctx: dict[str, Any], entries: list[dict[str, str]]) -> None:
    """Carry outbox entries (charges, and the releases at a campaign's end) into the ledger, each once.

    What is settled is told to the sales worker; what is not is sent again by it.
    """
    parts: Parts = ctx["parts"]
    changed, settled = await credit.deduct(
        parts.ds,
        [
            Entry(e["reference"], UUID(e["workspace_id"]), UUID(e["campaign_id"]), e["kind"], Decimal(e["amount"]))
            for e in entries
        ],
    )
    counters[SETTLED] += len(settled)
    for now in changed:
        await credit_events.publish(parts.broadcast, now)
    if len(settled) < len(entries):
        log.error(
            "charges beyond the credit, or of no workspace, stay in the outbox", entries=len(entries) - len(settled)
        )
    parts.metrics.entries.labels("settled").inc(len(settled))
    parts.metrics.entries.labels("refused").inc(len(entries) - len(settled))
    parts.settled.add(settled)


def settled_batcher(jobs: JobQueue) -> Batcher[str]:
    """Tells the sales worker which entries are settled: no hurry, since only their repetition depends on it."""

    async def send(references: list[str]) -> None:
        try:
            await jobs.send(SALES_QUEUE, SETTLE_OUTBOX, references)
        except JobsUnavailableError as error:
            log.warning("settled entries not told, they will be sent again", reason=str(error))

    return Batcher(send, period=0.25)


async def topup_credit(ctx: dict[str, Any], workspace_id: str, amount: str, reference: str) -> dict[str, Any] | None:
    """Add `amount` credits, once per reference. Returns the credit afterwards; None if there is no such workspace."""
    parts: Parts = ctx["parts"]
    try:
        now = await credit.top_up(parts.ds, UUID(workspace_id), Decimal(amount), reference)
    except WorkspaceNotFoundError:
        return None
    log.info("credit topped up", workspace_id=workspace_id, amount=amount, reference=reference)
    await credit_events.publish(parts.broadcast, now)
    return {
        "workspace_id": workspace_id,
        "credit": str(now.credit),
        "available": str(now.available),
        "version": now.version,
    }


async def startup(ctx: dict[str, Any]) -> None:
    """Put the worker together; wait for the database."""
    runtime = Runtime("general_worker", _settings)
    ds, jobs = runtime.database("ds", _settings.ds_dsn), runtime.jobs()
    settled = settled_batcher(jobs)
    runtime.task("settled entries", settled.run)
    runtime.serve_metrics(_settings.general_metrics_port)
    ctx["parts"] = Parts(ds, runtime.broadcast, settled, CreditMetrics(runtime.registry))
    await arq_worker.start(ctx, runtime, first=["ds"])


_settings = load()
arq_worker.use_uvloop()


class WorkerSettings:
    """How arq runs this worker."""

    functions: ClassVar = [func(job(deduct_credit), keep_result=0), job(topup_credit)]
    queue_name = GENERAL_QUEUE
    redis_pool = worker_redis(_settings.redis_url, GENERAL_QUEUE)
    job_serializer = encode
    job_deserializer = decode_job
    on_startup = startup
    on_shutdown = arq_worker.stop
    poll_delay = 0.025  # seconds; how late a charge may be seen on the WebSocket
    max_jobs = 10
    job_timeout = 30  # seconds; a job of a worker that was killed is free again 10 s later
    keep_result = 60  # seconds; the answer of a top-up
