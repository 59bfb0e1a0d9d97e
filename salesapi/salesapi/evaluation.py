"""The job that samples a live system: a campaign, its workspace's credit, and the processes of this machine."""

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

LONGEST = 300  # seconds; also how long the jobs of a worker that was killed are held back, whatever they do
_PERIOD = 0.2  # seconds between samples


async def sample(salesdb: Database, rpc: RpcClient, settings: Settings, bulksms_id: UUID, seconds: float) -> str | None:
    """Sample for `seconds`; returns the path of the report, under DATA_DIR.

    None if there is no such campaign, or nothing could be seen of it in that time.
    """

    async def look() -> Progress:
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
    sampler = Sampler(Processes(settings), look, _PERIOD)
    with suppress(TimeoutError):
        await asyncio.wait_for(sampler.run(), min(seconds, LONGEST))
    folder = settings.data_path / "evaluation" / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}-{bulksms_id}"
    evaluation = Evaluation("campaign", str(bulksms_id), sampler.samples)
    if not sampler.samples:
        return None
    # In a process of its own: to draw takes a second, and this one has messages to send.
    drawing = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        report = await asyncio.get_running_loop().run_in_executor(drawing, write, folder, [evaluation])
    finally:
        drawing.shutdown(wait=False)
    return str(report)
