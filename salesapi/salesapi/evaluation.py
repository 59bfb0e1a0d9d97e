"""Sample a running system: a campaign, its workspace's credit, and the processes of this machine."""

import asyncio
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from bulksms import campaigns
from bulksms.campaigns import CampaignNotFoundError
from common.database import Database
from common.settings import Settings
from local.evaluation.processes import Processes
from local.evaluation.report import write
from local.evaluation.sampling import Evaluation, Progress, Sampler
from rpc.client import RpcClient

MAX_SECONDS = 300  # also bounds how long arq holds back the jobs of a killed worker
_PERIOD = 0.2  # seconds between samples


async def sample(salesdb: Database, rpc: RpcClient, settings: Settings, bulksms_id: UUID, seconds: float) -> str | None:
    """Sample for `seconds`; returns the path of the report, under DATA_DIR.

    None if the campaign does not exist, or no sample could be taken in that time.
    """

    async def read_progress() -> Progress:
        campaign = await campaigns.get(salesdb, bulksms_id)
        credit = await rpc.get_workspace_credit(campaign.workspace_id)
        return Progress(
            contacts={str(status): count for status, count in campaign.statuses.items()},
            charged=campaign.charged,
            credit=credit.credit,
            reserved=credit.reserved,
            started_at=campaign.started_at,
            completed_at=campaign.completed_at,
        )

    try:
        await campaigns.get(salesdb, bulksms_id)
    except CampaignNotFoundError:
        return None
    sampler = Sampler(Processes(settings), read_progress, _PERIOD)
    with suppress(TimeoutError):
        await asyncio.wait_for(sampler.run(), min(seconds, MAX_SECONDS))
    folder = settings.data_path / "evaluation" / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{bulksms_id}"
    evaluation = Evaluation("campaign", str(bulksms_id), sampler.samples)
    if not sampler.samples:
        return None
    # In a separate process: plotting takes a second, and would block the sending of messages.
    executor = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        report = await asyncio.get_running_loop().run_in_executor(executor, write, folder, [evaluation])
    finally:
        executor.shutdown(wait=False)
    return str(report)
