"""Start and stop campaigns: the changes in salesdb together with those of credit in ds."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from bulksms import campaigns, cancellation, deletion, idempotency, lifecycle
from bulksms.campaigns import Campaign
from bulksms.idempotency import Key
from bulksms.lifecycle import WrongStateError
from bulksms.outbox import Entry
from common.audit_log import Actor
from common.database import Database
from common.jobs import JobQueue, JobsUnavailableError
from common.observability import tracing
from common.topology import SALES_QUEUE, SEND_CAMPAIGN
from rpc.client import InsufficientCreditError, NotFoundError, ReservationConflictError, RpcClient, RpcUnavailableError
from salesapi.salesapi.schemas import CampaignView

log = structlog.get_logger()


class CampaignRunner:
    """Starts and stops campaigns, for the endpoints and for the worker that continues interrupted starts."""

    def __init__(
        self,
        salesdb: Database,
        rpc: RpcClient,
        jobs: JobQueue,
        *,
        batch_size: int,
        concurrency: int,
        on_entries: Callable[[Sequence[Entry]], None],
    ) -> None:
        self._salesdb = salesdb
        self._rpc = rpc
        self._jobs = jobs
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._on_entries = on_entries

    async def run(self, bulksms_id: UUID, actor: Actor, key: str | None = None) -> Campaign:
        """Start the campaign: reserve its credit in ds, commit the start in salesdb, queue the jobs that send it.

        Exactly one of several concurrent calls starts it. `key` is the client's idempotency key.
        Raises CampaignNotFoundError, WrongStateError (also in the later calls), InsufficientCreditError and
        NotFoundError with nothing changed, and RpcUnavailableError: then the worker finishes the start later.
        """
        with tracing.root("run campaign", bulksms_id):
            return await self._run(bulksms_id, actor, key)

    async def _run(self, bulksms_id: UUID, actor: Actor, key: str | None) -> Campaign:
        campaign, requested = await lifecycle.request_run(self._salesdb, bulksms_id, key)
        try:
            await self._rpc.reserve_credit(campaign.workspace_id, bulksms_id, campaign.total_cost)
        except (InsufficientCreditError, NotFoundError):
            await lifecycle.withdraw_run(self._salesdb, bulksms_id, requested)
            raise
        except ReservationConflictError:  # cancelled meanwhile, and its reservation released
            raise WrongStateError((await campaigns.get(self._salesdb, bulksms_id)).status) from None
        started = await self._start(bulksms_id, actor, key)
        if started is None:
            raise WrongStateError((await campaigns.get(self._salesdb, bulksms_id)).status)
        log.info("campaign started", bulksms_id=str(bulksms_id), contacts=started.contact_count)
        await self.send(bulksms_id)
        return started

    async def _start(self, bulksms_id: UUID, actor: Actor, key: str | None) -> Campaign | None:
        """Commit the start and the response for the idempotency keys; None if another call has started it."""
        async with self._salesdb.transaction() as connection:
            started = await lifecycle.start(connection, bulksms_id, self._batch_size, key, actor)
            if started is None:
                return None
            for run_key in started.keys:
                await idempotency.store(connection, run_key, _response_body(started.campaign))
        return started.campaign

    async def schedule(self, bulksms_id: UUID, moment: datetime, actor: Actor, key: Key | None) -> Campaign:
        """Schedule the campaign for `moment` and store the response for the key, if there is one.

        Raises CampaignNotFoundError, WrongStateError.
        """
        async with self._salesdb.transaction() as connection:
            campaign = await lifecycle.schedule(connection, bulksms_id, moment, actor)
            if key is not None:
                await idempotency.store(connection, key, _response_body(campaign))
        return campaign

    async def resume(self, bulksms_id: UUID, actor: Actor) -> Campaign:
        """Resume a paused campaign. Raises CampaignNotFoundError, WrongStateError."""
        campaign = await lifecycle.resume(self._salesdb, bulksms_id, actor)
        await self.send(bulksms_id)
        return campaign

    async def cancel(self, bulksms_id: UUID, actor: Actor) -> Campaign:
        """Cancel the campaign and release its unused reservation. Raises CampaignNotFoundError, WrongStateError."""
        campaign, entries = await cancellation.cancel(self._salesdb, bulksms_id, actor)
        self._on_entries(entries)
        if campaign.completed_at is None and campaign.started_at is None:
            await self._release_now_or_later(campaign)
            campaign = await campaigns.get(self._salesdb, bulksms_id)
        return campaign

    async def delete(self, bulksms_id: UUID, actor: Actor) -> None:
        """Delete a campaign that was not run or has ended. Raises CampaignNotFoundError, WrongStateError."""
        campaign = await deletion.delete(self._salesdb, bulksms_id, actor)
        log.info("campaign deleted", bulksms_id=str(bulksms_id), contacts=campaign.contact_count)
        if campaign.completed_at is None:
            await self._release_now_or_later(campaign)

    async def _release_now_or_later(self, campaign: Campaign) -> None:
        """End a campaign that was cancelled before its start; while rpc is unavailable, the worker does it later."""
        try:
            await self.release(campaign.id, campaign.workspace_id)
        except RpcUnavailableError as error:
            log.warning("the reservation is released later", bulksms_id=str(campaign.id), reason=str(error))

    async def release(self, bulksms_id: UUID, workspace_id: UUID) -> None:
        """Release the reservation of a campaign cancelled before its start. Raises RpcUnavailableError."""
        try:
            await self._rpc.release_credit(workspace_id, bulksms_id)
        except NotFoundError as error:  # a workspace that does not exist holds no reservation
            log.warning("nothing to release", bulksms_id=str(bulksms_id), reason=str(error))
        await cancellation.mark_released(self._salesdb, bulksms_id)

    async def send(self, bulksms_id: UUID, concurrency: int | None = None) -> None:
        """Queue jobs that send the campaign; if Redis is unavailable, the workers' schedule finds it."""
        try:
            with tracing.span("ask for sending", campaigns=[bulksms_id]):
                for _ in range(concurrency or self._concurrency):
                    await self._jobs.send(SALES_QUEUE, SEND_CAMPAIGN, str(bulksms_id))
        except JobsUnavailableError as error:
            log.warning("sending is left to the schedule", bulksms_id=str(bulksms_id), reason=str(error))


def _response_body(campaign: Campaign) -> bytes:
    """The response body to store for idempotency keys."""
    return msgspec.json.encode(CampaignView.of(campaign))
