"""How a campaign went: how many of its messages had which status, over its time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from bulksms.campaigns import Campaign
from common.database import Database


class TimelinePoint(NamedTuple):
    """Messages that had, by then, the status that they have now."""

    at: datetime
    sent: int
    failed: int
    delivered: int
    undelivered: int


# A row keeps the time of its last report only, so a message counts from when it took the status that it has now. That
# is exact for final ones; that they were `sent` before is not told.
_MOVED = """
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

_SHORTEST = timedelta(milliseconds=50)


async def read(database: Database, campaign: Campaign, now: datetime, count: int = 120) -> Sequence[TimelinePoint]:
    """Up to about `count` points of a campaign's time, each with the totals at its end; none before its start."""
    if campaign.started_at is None:
        return []
    step = max(((campaign.completed_at or now) - campaign.started_at) / count, _SHORTEST)
    async with database.connection() as connection:
        rows = await connection.fetch(_MOVED, campaign.id, step, campaign.started_at)
    points = [TimelinePoint(campaign.started_at, 0, 0, 0, 0)]
    for at, *counts in rows:
        points.append(TimelinePoint(at, *(before + more for before, more in zip(points[-1][1:], counts, strict=True))))
    return points
