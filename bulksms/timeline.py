"""The timeline of a campaign: its messages by status over time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from bulksms.campaigns import Campaign
from common.database import Database


class TimelinePoint(NamedTuple):
    """Messages that had reached their current status by the time `at`."""

    at: datetime
    sent: int
    failed: int
    delivered: int
    undelivered: int


# A row keeps the time of its last change only, so a message counts from when it reached its current status. That is
# exact for final statuses; the time at which they were `sent` is not kept.
_CHANGES = """
    SELECT date_bin($2, modified_at, $3) + $2 AS at,
           count(*) FILTER (WHERE sms_status = 'sent') AS sent,
           count(*) FILTER (WHERE sms_status = 'failed') AS failed,
           count(*) FILTER (WHERE sms_status = 'delivered') AS delivered,
           count(*) FILTER (WHERE sms_status = 'undelivered') AS undelivered
    FROM bulksms_info
    WHERE bulksms_id = $1 AND sms_status <> 'queued'
    GROUP BY 1
    ORDER BY 1
"""

_MIN_STEP = timedelta(milliseconds=50)


async def read(database: Database, campaign: Campaign, now: datetime, count: int = 120) -> Sequence[TimelinePoint]:
    """About `count` points from the campaign's start to its end or `now`; counts are cumulative."""
    if campaign.started_at is None:
        return []
    step = max(((campaign.completed_at or now) - campaign.started_at) / count, _MIN_STEP)
    async with database.connection() as connection:
        rows = await connection.fetch(_CHANGES, campaign.id, step, campaign.started_at)
    points = [TimelinePoint(campaign.started_at, 0, 0, 0, 0)]
    for at, *counts in rows:
        points.append(TimelinePoint(at, *(before + more for before, more in zip(points[-1][1:], counts, strict=True))))
    return points
