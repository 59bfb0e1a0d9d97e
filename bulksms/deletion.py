"""Delete campaigns that were not run or have ended.

A deleted campaign is gone for its owner at once. Its contacts, rejected rows and batches are deleted afterwards, see
`retention`. The row of the campaign stays, without its name and text, with its counters and its cost, and so do the
entries of the outbox: the books must still add up.
"""

from uuid import UUID

from bulksms import campaigns
from bulksms.campaigns import FIELDS, Campaign, from_row
from bulksms.lifecycle import WrongStateError
from common import audit_log
from common.audit_log import Actor
from common.database import Database

# A draft ends as if it was cancelled before its start, so that no credit can be reserved for it any more. One whose run
# was requested is about to start.
_DELETE = f"""
    UPDATE bulksms
    SET deleted_at = clock_timestamp(), purged_at = coalesce(purged_at, clock_timestamp()), purge_pending = true,
        name = '', message = '', pause_reason = NULL, run_key = NULL,
        status = CASE WHEN completed_at IS NULL THEN 'cancelled' ELSE status END,
        unsent_count = CASE WHEN completed_at IS NULL THEN queued_count ELSE unsent_count END,
        modified_at = now()
    WHERE id = $1 AND deleted_at IS NULL
      AND (completed_at IS NOT NULL OR status = 'created' AND run_requested_at IS NULL)
    RETURNING {FIELDS}
"""


async def delete(database: Database, bulksms_id: UUID, actor: Actor) -> Campaign:
    """Delete a campaign. Raises CampaignNotFoundError, WrongStateError unless it is a draft or has ended."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(_DELETE, bulksms_id)
        if row is None:
            raise WrongStateError((await campaigns.read(connection, bulksms_id)).status)
        campaign = from_row(row)
        await audit_log.write(
            connection,
            actor,
            "campaign.delete",
            workspace_id=campaign.workspace_id,
            object_id=bulksms_id,
            contacts=campaign.contact_count,
        )
    return campaign
