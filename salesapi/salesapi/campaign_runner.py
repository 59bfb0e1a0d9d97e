"""How a campaign starts and stops: what is done in salesdb, and what that means for its credit in ds."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from bulksms import campaigns, cancellation, idempotency, lifecycle
from bulksms.campaigns import Campaign
from bulksms.idempotency import Key
from bulksms.lifecycle import WrongStateError
from bulksms.outbox import Entry
from common.database import Database
from common.jobs import JobQueue, JobsUnavailableError
from common.observability import tracing
from common.topology import SALES_QUEUE, SEND_CAMPAIGN
from rpc.client import InsufficientCreditError, NotFoundError, ReservationConflictError, RpcClient, RpcUnavailableError
from salesapi.salesapi.schemas import CampaignView

log = structlog.get_logger()


class CampaignRunner:
    """Starts and stops campaigns; used by the endpoints, and by the worker that finishes what was cut short."""

    def __init__(
        self,
        salesdb: Database,
        rpc: RpcClient,
        jobs: JobQueue,
        *,
        batch: int,
        lanes: int,
        on_entries: Callable[[Sequence[Entry]], None],
    ) -> None:
        self._salesdb = salesdb
        self._rpc = rpc
        self._jobs = jobs
        self._batch = batch
        self._lanes = lanes
        self._on_entries = on_entries

    async def run(self, bulksms_id: UUID, key: str | None = None) -> Campaign:
        """Start the campaign: credit reserved in ds, then the start committed in salesdb, then jobs to send it.

        Exactly one of any number of calls does. `key` is the client's idempotency key for it.
        Raises CampaignNotFoundError, WrongStateError (also to the calls that came second), InsufficientCreditError and
        NotFoundError with nothing changed, and RpcUnavailableError: then the start is finished when rpc is back.
        """
        with tracing.root("run campaign", bulksms_id):
            return await self._run(bulksms_id, key)

    async def _run(self, bulksms_id: UUID, key: str | None) -> Campaign:
        campaign, requested = await lifecycle.request_run(self._salesdb, bulksms_id, key)
        try:
            await self._rpc.reserve_credit(campaign.workspace_id, bulksms_id, campaign.total_cost)
        except (InsufficientCreditError, NotFoundError):
            await lifecycle.withdraw_run(self._salesdb, bulksms_id, requested)
            raise
        except ReservationConflictError:  # it was cancelled meanwhile, and what it held was given back
            raise WrongStateError((await campaigns.get(self._salesdb, bulksms_id)).status) from None
        started = await self._start(bulksms_id, key)
        if started is None:
            raise WrongStateError((await campaigns.get(self._salesdb, bulksms_id)).status)
        log.info("campaign started", bulksms_id=str(bulksms_id), contacts=started.contact_count)
        await self.send(bulksms_id)
        return started

    async def _start(self, bulksms_id: UUID, key: str | None) -> Campaign | None:
        """Commit the start, and with it the answer under the idempotency keys; None if another call has started it."""
        async with self._salesdb.transaction() as connection:
            started = await lifecycle.start(connection, bulksms_id, self._batch, key)
            if started is None:
                return None
            for one in started.keys:
                await idempotency.store(connection, one, _kept_answer(started.campaign))
        return started.campaign

    async def schedule(self, bulksms_id: UUID, moment: datetime, key: Key | None) -> Campaign:
        """Have the campaign run at `moment`; the answer is kept for the key, if there is one.

        Raises CampaignNotFoundError, WrongStateError.
        """
        async with self._salesdb.transaction() as connection:
            campaign = await lifecycle.schedule(connection, bulksms_id, moment)
            if key is not None:
                await idempotency.store(connection, key, _kept_answer(campaign))
        return campaign

    async def resume(self, bulksms_id: UUID) -> Campaign:
        """Go on with a paused campaign. Raises CampaignNotFoundError, WrongStateError."""
        campaign = await lifecycle.resume(self._salesdb, bulksms_id)
        await self.send(bulksms_id)
        return campaign

    async def cancel(self, bulksms_id: UUID) -> Campaign:
        """End the campaign and give back what it will not need. Raises CampaignNotFoundError, WrongStateError."""
        campaign, entries = await cancellation.cancel(self._salesdb, bulksms_id)
        self._on_entries(entries)
        if campaign.completed_at is None and campaign.started_at is None:
            try:
                await self.release(bulksms_id, campaign.workspace_id)
            except RpcUnavailableError as error:
                log.warning("the release waits for the schedule", bulksms_id=str(bulksms_id), reason=str(error))
            campaign = await campaigns.get(self._salesdb, bulksms_id)
        return campaign

    async def release(self, bulksms_id: UUID, workspace_id: UUID) -> None:
        """Give back what a campaign holds that was cancelled while it started. Raises RpcUnavailableError."""
        try:
            await self._rpc.release_credit(workspace_id, bulksms_id)
        except NotFoundError as error:  # a workspace that is not there holds nothing
            log.warning("nothing to release", bulksms_id=str(bulksms_id), reason=str(error))
        await cancellation.mark_released(self._salesdb, bulksms_id)

    async def send(self, bulksms_id: UUID, lanes: int | None = None) -> None:
        """Ask the sales workers to send what the campaign has to send; if Redis is away, their schedule will."""
        try:
            with tracing.span("ask for sending", campaigns=[bulksms_id]):
                for _ in range(lanes or self._lanes):
                    await self._jobs.send(SALES_QUEUE, SEND_CAMPAIGN, str(bulksms_id))
        except JobsUnavailableError as error:
            log.warning("sending waits for the schedule", bulksms_id=str(bulksms_id), reason=str(error))


def _kept_answer(campaign: Campaign) -> bytes:
    """What a request that is sent again under its idempotency key is answered."""
    return msgspec.json.encode(CampaignView.of(campaign))
