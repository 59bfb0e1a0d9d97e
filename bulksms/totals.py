"""Totals over salesdb for monitoring, cheap enough to be read every few seconds."""

from decimal import Decimal
from typing import NamedTuple

from bulksms.status import CampaignStatus, SmsStatus
from common.database import Database


class Totals(NamedTuple):
    """Campaigns and messages by status; unsettled outbox entries, their credits, the age of the oldest in seconds."""

    campaigns: dict[CampaignStatus, int]
    messages: dict[SmsStatus, int]
    unsettled: int
    unsettled_credits: Decimal
    oldest_unsettled: float


# From the campaigns' counters: counting bulksms_info would read every message ever sent.
_CAMPAIGNS = f"""
    SELECT status::text, count(*) AS campaigns, {", ".join(f"sum({status}_count) AS {status}" for status in SmsStatus)}
    FROM bulksms
    GROUP BY status
"""

_OUTBOX = """
    SELECT count(*) AS entries, coalesce(sum(amount), 0) AS credits,
           coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 AS oldest
    FROM outbox
    WHERE settled_at IS NULL
"""


async def read(database: Database) -> Totals:
    """The totals now; every status is present, also with a count of 0."""
    async with database.connection() as connection:
        rows = await connection.fetch(_CAMPAIGNS)
        outbox = await connection.fetchrow(_OUTBOX)
    assert outbox is not None
    by_status = {row["status"]: row["campaigns"] for row in rows}
    return Totals(
        campaigns={status: by_status.get(status, 0) for status in CampaignStatus},
        messages={status: sum(row[status] for row in rows) for status in SmsStatus},
        unsettled=outbox["entries"],
        unsettled_credits=outbox["credits"],
        oldest_unsettled=outbox["oldest"],
    )
