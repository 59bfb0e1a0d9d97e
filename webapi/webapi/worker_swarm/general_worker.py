"""The worker on `arq:general_queue`: every change of credit except a reservation, and its publication.

arq webapi.webapi.worker_swarm.general_worker.WorkerSettings
"""

from typing import Annotated, Any, ClassVar, Literal, NamedTuple
from uuid import UUID

import msgspec
import structlog
from arq import func
from msgspec import Meta

from common import arq_worker
from common.arq_worker import decode_job, job
from common.audit_log import Actor
from common.batcher import Batcher
from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import JobQueue, JobsUnavailableError, encode, worker_redis
from common.money import Credits
from common.observability.counters import counters
from common.runtime import Runtime
from common.settings import load
from common.topology import GENERAL_QUEUE, SALES_QUEUE, SETTLE_OUTBOX, SETTLED
from webapi.webapi import credit_events
from webapi.webapi.metrics import CreditMetrics
from workspace import credit
from workspace.credit import Entry, TopUpConflictError, WorkspaceNotFoundError

log = structlog.get_logger()


class Context(NamedTuple):
    """What the jobs need."""

    ds: Database
    broadcast: KrispBroadcast
    settled: Batcher[str]
    metrics: CreditMetrics


class OutboxEntry(msgspec.Struct):
    """An entry of salesdb's outbox, as the job has it."""

    reference: UUID
    workspace_id: UUID
    campaign_id: UUID
    kind: Literal["charge", "release"]
    amount: Credits


Reference = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


async def deduct_credit(ctx: dict[str, Any], entries: list[OutboxEntry]) -> None:
    """Carry outbox entries (charges, and the releases at a campaign's end) into the ledger, each once.

    The sales worker is informed of what is settled; it sends the rest again.
    """
    context: Context = ctx["context"]
    changed, settled = await credit.deduct(
        context.ds,
        [Entry(str(e.reference), e.workspace_id, e.campaign_id, e.kind, e.amount) for e in entries],
    )
    counters[SETTLED] += len(settled)
    for current in changed:
        await credit_events.publish(context.broadcast, current)
    if len(settled) < len(entries):
        log.error(
            "charges beyond the credit or the reservation, or of an unknown workspace or campaign, stay in the outbox",
            entries=len(entries) - len(settled),
        )
    context.metrics.entries.labels("settled").inc(len(settled))
    context.metrics.entries.labels("refused").inc(len(entries) - len(settled))
    context.settled.add(settled)


def settled_batcher(jobs: JobQueue) -> Batcher[str]:
    """Informs the sales worker of settled entries, in batches: a delay only means that some are sent again."""

    async def send(references: list[str]) -> None:
        try:
            await jobs.send(SALES_QUEUE, SETTLE_OUTBOX, references)
        except JobsUnavailableError as error:
            log.warning("settled entries not reported, they will be sent again", reason=str(error))

    return Batcher(send, period=0.25)


async def topup_credit(
    ctx: dict[str, Any], workspace_id: UUID, amount: Credits, reference: Reference, actor: Actor
) -> dict[str, Any] | None:
    """Add `amount` credits, once per reference; `actor` is the caller.

    Returns the credit afterwards; None if the workspace does not exist; only `recorded`, the amount in the ledger, if
    the reference was used for another one.
    """
    context: Context = ctx["context"]
    try:
        current = await credit.top_up(context.ds, workspace_id, amount, reference, actor)
    except WorkspaceNotFoundError:
        return None
    except TopUpConflictError as error:
        return {"recorded": str(error.recorded)}
    log.info("credit topped up", workspace_id=str(workspace_id), amount=str(amount), reference=reference)
    await credit_events.publish(context.broadcast, current)
    return {
        "workspace_id": str(workspace_id),
        "credit": str(current.credit),
        "available": str(current.available),
        "version": current.version,
    }


async def startup(ctx: dict[str, Any]) -> None:
    """Put the worker together, and wait for the database."""
    runtime = Runtime("general_worker", _settings)
    ds, jobs = runtime.database("ds", _settings.ds_dsn), runtime.jobs()
    settled = settled_batcher(jobs)
    runtime.task("settled entries", settled.run)
    runtime.serve_metrics(_settings.general_metrics_port)
    ctx["context"] = Context(ds, runtime.broadcast, settled, CreditMetrics(runtime.registry))
    await arq_worker.start(ctx, runtime, first=["ds"])


_settings = load()
arq_worker.use_uvloop()


class WorkerSettings:
    """The settings that arq reads."""

    functions: ClassVar = [func(job(deduct_credit), keep_result=0), job(topup_credit)]
    queue_name = GENERAL_QUEUE
    redis_pool = worker_redis(_settings.redis_url, GENERAL_QUEUE)
    job_serializer = encode
    job_deserializer = decode_job
    on_startup = startup
    on_shutdown = arq_worker.stop
    poll_delay = 0.025  # seconds; the delay of a charge on the WebSocket
    max_jobs = 10
    job_timeout = 30  # seconds; after a worker is killed, another may take its job 10 s later than that
    keep_result = 60  # seconds; for the result of a top-up
