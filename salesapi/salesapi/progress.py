"""Publish the progress of campaigns after they change, at most four times a second.

Messages may be lost: webapi reads the current progress from the rpc node.
"""

from collections.abc import Iterable
from uuid import UUID

import msgspec
import structlog

from bulksms import campaigns
from common.batcher import Batcher
from common.broadcast import KrispBroadcast
from common.database import Database
from common.topology import CAMPAIGN_CHANNEL

log = structlog.get_logger()

_PERIOD = 0.25  # seconds between two messages about a campaign


class ProgressPublisher:
    """Collects the ids of changed campaigns and publishes their progress."""

    def __init__(self, salesdb: Database, broadcast: KrispBroadcast) -> None:
        self._salesdb = salesdb
        self._broadcast = broadcast
        self._changed: Batcher[UUID] = Batcher(self._publish, period=_PERIOD, most=10_000)
        self.add = self._changed.add
        self.run = self._changed.run

    async def _publish(self, changed: Iterable[UUID]) -> None:
        try:
            for campaign in await campaigns.get_many(self._salesdb, list(set(changed))):
                topic = f"{campaign.workspace_id}/{campaign.id}"
                await self._broadcast.publish(
                    CAMPAIGN_CHANNEL, topic, msgspec.json.encode(campaigns.progress(campaign))
                )
        except Exception as error:
            log.warning("campaign progress not published", reason=str(error) or type(error).__name__)
