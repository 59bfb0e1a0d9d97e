"""News of campaigns for whoever watches them: where each stands, soon after it has moved, at most four times a second.

It is news only: webapi asks the rpc node for what is missed.
"""

from collections.abc import Iterable
from uuid import UUID

import msgspec
import structlog

from bulksms import campaigns
from common.batcher import Batcher
from common.broadcast import CAMPAIGN_PROGRESS, KrispBroadcast
from common.database import Database

log = structlog.get_logger()

_PERIOD = 0.25  # seconds between two news of a campaign


class ProgressNews:
    """Takes the ids of campaigns that have moved, and publishes where they stand."""

    def __init__(self, salesdb: Database, broadcast: KrispBroadcast) -> None:
        self._salesdb = salesdb
        self._broadcast = broadcast
        self._moved: Batcher[UUID] = Batcher(self._publish, period=_PERIOD, most=10_000)
        self.add = self._moved.add
        self.run = self._moved.run

    async def _publish(self, moved: Iterable[UUID]) -> None:
        try:
            for campaign in await campaigns.get_many(self._salesdb, list(set(moved))):
                topic = f"{campaign.workspace_id}/{campaign.id}"
                await self._broadcast.publish(
                    CAMPAIGN_PROGRESS, topic, msgspec.json.encode(campaigns.progress(campaign))
                )
        except Exception as error:
            log.warning("news of campaigns not told", reason=str(error) or type(error).__name__)
