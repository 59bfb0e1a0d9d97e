"""News of campaigns for whoever watches them: where each stands, soon after it has moved, at most four times a second.

It is news only: webapi asks the rpc node for what is missed.
"""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

import msgspec
import structlog

from bulksms import campaigns
from bulksms.campaigns import Campaign
from common.broadcast import CAMPAIGN_PROGRESS, KrispBroadcast
from common.database import Database
from common.jobs import Gathering
from rpc.client import Progress

log = structlog.get_logger()

_PERIOD = 0.25  # seconds between two news of a campaign


class ProgressNews:
    """Takes the ids of campaigns that have moved, and publishes where they stand."""

    def __init__(self, salesdb: Database, broadcast: KrispBroadcast) -> None:
        self._salesdb = salesdb
        self._broadcast = broadcast
        self._moved: Gathering[UUID] = Gathering(self._publish, period=_PERIOD, most=10_000)
        self.add = self._moved.add
        self.run = self._moved.run

    async def _publish(self, moved: Iterable[UUID]) -> None:
        try:
            for campaign in await campaigns.get_many(self._salesdb, list(set(moved))):
                topic = f"{campaign.workspace_id}/{campaign.id}"
                await self._broadcast.publish(CAMPAIGN_PROGRESS, topic, msgspec.json.encode(_progress(campaign)))
        except Exception as error:
            log.warning("news of campaigns not told", reason=str(error) or type(error).__name__)


def _progress(campaign: Campaign) -> Progress:
    """The campaign as the rpc node tells of it."""
    return Progress(
        bulksms_id=campaign.id,
        workspace_id=campaign.workspace_id,
        name=campaign.name,
        status=campaign.status,
        contacts=campaign.contact_count,
        **{str(status): count for status, count in campaign.statuses.items()},
        total_cost=campaign.total_cost,
        charged=campaign.charged,
        created_at=_time(campaign.created_at),
        started_at=_time(campaign.started_at),
        completed_at=_time(campaign.completed_at),
        scheduled_for=_time(campaign.scheduled_for),
        pause_reason=campaign.pause_reason or "",
        unsent=campaign.unsent_count,
    )


def _time(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""
