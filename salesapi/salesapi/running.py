"""How a campaign starts: credit reserved in ds, then the start committed in salesdb, then jobs to send it."""

from uuid import UUID

import structlog

from bulksms import campaigns
from bulksms.campaigns import Campaign, NotRunnableError
from common.database import Database
from common.jobs import SALES_QUEUE, JobQueue, JobsUnavailableError
from rpc.client import InsufficientCreditError, NotFoundError, RpcClient

log = structlog.get_logger()


class Runner:
    """Starts campaigns; used by `/run`, and by the worker that finishes a start which was cut short."""

    def __init__(self, salesdb: Database, rpc: RpcClient, jobs: JobQueue, *, batch: int, lanes: int) -> None:
        self._salesdb = salesdb
        self._rpc = rpc
        self._jobs = jobs
        self._batch = batch
        self._lanes = lanes

    async def run(self, bulksms_id: UUID) -> Campaign:
        """Start the campaign; exactly one of any number of calls does.

        Raises CampaignNotFoundError, NotRunnableError (also to the calls that came second), InsufficientCreditError
        and NotFoundError with nothing changed, and RpcUnavailableError: then the start is finished when rpc is back.
        """
        campaign = await campaigns.request_run(self._salesdb, bulksms_id)
        try:
            await self._rpc.reserve_credit(campaign.workspace_id, bulksms_id, campaign.total_cost)
        except (InsufficientCreditError, NotFoundError):
            await campaigns.withdraw_run(self._salesdb, bulksms_id)
            raise
        if not await campaigns.start(self._salesdb, bulksms_id, self._batch):
            raise NotRunnableError((await campaigns.get(self._salesdb, bulksms_id)).status)
        log.info("campaign started", bulksms_id=str(bulksms_id), contacts=campaign.contact_count)
        await self.send(bulksms_id)
        return await campaigns.get(self._salesdb, bulksms_id)

    async def send(self, bulksms_id: UUID) -> None:
        """Ask the sales workers to send what the campaign has to send; if Redis is away, their schedule will."""
        try:
            for _ in range(self._lanes):
                await self._jobs.send(SALES_QUEUE, "send_campaign", str(bulksms_id))
        except JobsUnavailableError as error:
            log.warning("sending waits for the schedule", bulksms_id=str(bulksms_id), reason=str(error))
