"""Delete campaigns that were not run or have ended.

A deleted campaign is gone for its owner at once. Its contacts, rejected rows and batches are deleted afterwards in
small transactions, so that delivery reports of others need not wait. The row of the campaign stays, without its name
and text, with its counters and its cost, and so do the entries of the outbox: the books must still add up.
"""

from uuid import UUID

from bulksms import campaigns
from bulksms.campaigns import FIELDS, Campaign, from_row
from bulksms.lifecycle import WrongStateError
from common.database import Database

# A draft ends as if it was cancelled before its start, so that no credit can be reserved for it any more. One whose run
# was requested is about to start.
_DELETE = f"""
    UPDATE bulksms
    SET deleted_at = clock_timestamp(), name = '', message = '', pause_reason = NULL, run_key = NULL,
        status = CASE WHEN completed_at IS NULL THEN 'cancelled' ELSE status END,
        unsent_count = CASE WHEN completed_at IS NULL THEN queued_count ELSE unsent_count END,
        modified_at = now()
    WHERE id = $1 AND deleted_at IS NULL
      AND (completed_at IS NOT NULL OR status = 'created' AND run_requested_at IS NULL)
    RETURNING {FIELDS}
"""

_TO_PURGE = "SELECT id FROM bulksms WHERE deleted_at IS NOT NULL AND purged_at IS NULL ORDER BY id LIMIT 100"

# The batches first: then no report is applied to the contacts, and both need not wait for each other.
_PURGE_BATCHES = "DELETE FROM bulksms_batch WHERE bulksms_id = $1"

_PURGE_CONTACTS = """
    DELETE FROM bulksms_info
    WHERE bulksms_id = $1 AND seq < (SELECT min(seq) + $2 FROM bulksms_info WHERE bulksms_id = $1)
"""

_PURGE_REJECTED = """
    DELETE FROM bulksms_rejected
    WHERE bulksms_id = $1 AND line < (SELECT min(line) + $2 FROM bulksms_rejected WHERE bulksms_id = $1)
"""

_MARK_PURGED = "UPDATE bulksms SET purged_at = clock_timestamp() WHERE id = $1"


async def delete(database: Database, bulksms_id: UUID) -> Campaign:
    """Delete a campaign. Raises CampaignNotFoundError, WrongStateError unless it is a draft or has ended."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_DELETE, bulksms_id)
        if row is None:
            raise WrongStateError((await campaigns.read(connection, bulksms_id)).status)
    return from_row(row)


async def to_purge(database: Database) -> list[UUID]:
    """Deleted campaigns whose rows are still there."""
    async with database.connection() as connection:
        return [row["id"] for row in await connection.fetch(_TO_PURGE)]


async def purge(database: Database, bulksms_id: UUID, rows: int = 5_000) -> bool:
    """Delete up to `rows` contacts or rejected rows of a deleted campaign; False once nothing is left."""
    async with database.connection() as connection:
        await connection.execute(_PURGE_BATCHES, bulksms_id)
        for statement in (_PURGE_CONTACTS, _PURGE_REJECTED):
            if await connection.execute(statement, bulksms_id, rows) != "DELETE 0":
                return True
        await connection.execute(_MARK_PURGED, bulksms_id)
    return False
