"""Cancel campaigns: batches that were not submitted are closed, and their cost is released.

A cancelled campaign ends (`completed_at`) once no message of it is with the carrier. One that was never started may
hold a reservation; that is released by rpc, see `reservations_to_release`.
"""

from uuid import UUID

from bulksms.campaigns import Campaign, CampaignNotFoundError, get
from bulksms.lifecycle import WrongStateError
from bulksms.outbox import Entry
from bulksms.status import CampaignStatus
from common import audit_log
from common.audit_log import Actor
from common.database import Connection, Database

_LOCK = "SELECT status, started_at, workspace_id FROM bulksms WHERE id = $1 FOR NO KEY UPDATE"

# Nothing of it was sent. A concurrent run may still reserve credit, so it ends only after `release_credit`.
_CANCEL_UNSTARTED = """
    UPDATE bulksms SET status = 'cancelled', unsent_count = queued_count, modified_at = now() WHERE id = $1
"""

_CANCEL = "UPDATE bulksms SET status = 'cancelled', modified_at = now() WHERE id = $1"

# Closes the batches that the carrier cannot have and releases their cost; releases all that remains of the
# reservation if no message is with the carrier.
_CLOSE_UNSENT = """
    WITH closed AS (
        UPDATE bulksms_batch SET state = 'closed', error = 'cancelled'
        WHERE bulksms_id = $1 AND state = 'pending' AND NOT uncertain
        RETURNING first_seq, last_seq
    ), unsent AS (
        SELECT count(*) AS contacts, coalesce(sum(sms_cost), 0) AS cost
        FROM closed JOIN bulksms_info AS info ON info.bulksms_id = $1 AND info.seq BETWEEN first_seq AND last_seq
        WHERE info.sms_status = 'queued'
    ), released_campaign AS (
        UPDATE bulksms
        SET unsent_count = unsent_count + unsent.contacts,
            released = CASE WHEN queued_count + sent_count <= unsent_count + unsent.contacts
                            THEN total_cost - charged ELSE released + unsent.cost END,
            completed_at = CASE WHEN queued_count + sent_count <= unsent_count + unsent.contacts
                                THEN clock_timestamp() END,
            modified_at = now()
        FROM unsent
        WHERE id = $1 AND status = 'cancelled' AND started_at IS NOT NULL AND completed_at IS NULL
        RETURNING workspace_id, id, new.released - old.released AS amount
    )
    INSERT INTO outbox (workspace_id, bulksms_id, kind, amount, created_at)
    SELECT workspace_id, id, 'release', amount, clock_timestamp() FROM released_campaign WHERE amount > 0
    RETURNING reference, workspace_id, bulksms_id, kind, amount
"""

# Cancelled campaigns with a batch that was postponed after the cancellation.
_WITH_UNSENT = """
    SELECT DISTINCT b.bulksms_id
    FROM bulksms JOIN bulksms_batch AS b ON b.bulksms_id = bulksms.id
    WHERE bulksms.status = 'cancelled' AND bulksms.completed_at IS NULL AND b.state = 'pending' AND NOT b.uncertain
"""

_TO_RELEASE = (
    "SELECT id, workspace_id FROM bulksms WHERE status = 'cancelled' AND completed_at IS NULL AND started_at IS NULL"
)

_MARK_RELEASED = """
    UPDATE bulksms SET completed_at = clock_timestamp()
    WHERE id = $1 AND status = 'cancelled' AND completed_at IS NULL AND started_at IS NULL
"""


async def cancel(database: Database, bulksms_id: UUID, actor: Actor) -> tuple[Campaign, list[Entry]]:
    """End the campaign: unsent messages stay unsent, and their cost is released.

    Returns the campaign and the outbox entries of the release.
    Raises CampaignNotFoundError, WrongStateError if it is completed.
    """
    entries: list[Entry] = []
    async with database.transaction() as connection:
        row = await connection.fetchrow(_LOCK, bulksms_id)
        if row is None:
            raise CampaignNotFoundError(f"there is no campaign {bulksms_id}")
        status = CampaignStatus(row["status"])
        if status == CampaignStatus.COMPLETED:
            raise WrongStateError(status)
        if status != CampaignStatus.CANCELLED:
            await audit_log.write(
                connection, actor, "campaign.cancel", workspace_id=row["workspace_id"], object_id=bulksms_id
            )
            if row["started_at"] is None:
                await connection.execute(_CANCEL_UNSTARTED, bulksms_id)
            else:
                await connection.execute(_CANCEL, bulksms_id)
                entries = await _close_unsent(connection, bulksms_id)
    return await get(database, bulksms_id), entries


async def close_unsent(database: Database) -> list[Entry]:
    """Close batches of cancelled campaigns that were postponed meanwhile. Returns the outbox entries."""
    entries: list[Entry] = []
    async with database.connection() as connection:
        for row in await connection.fetch(_WITH_UNSENT):
            async with connection.transaction():
                await connection.fetchrow(_LOCK, row["bulksms_id"])
                entries += await _close_unsent(connection, row["bulksms_id"])
    return entries


async def _close_unsent(connection: Connection, bulksms_id: UUID) -> list[Entry]:
    return [Entry(*row) for row in await connection.fetch(_CLOSE_UNSENT, bulksms_id)]


async def reservations_to_release(database: Database) -> list[tuple[UUID, UUID]]:
    """Campaigns cancelled before they started, which may hold a reservation, as (campaign id, workspace id)."""
    async with database.connection() as connection:
        return [(row["id"], row["workspace_id"]) for row in await connection.fetch(_TO_RELEASE)]


async def mark_released(database: Database, bulksms_id: UUID) -> None:
    """Record that the reservation of such a campaign is released."""
    async with database.connection() as connection:
        await connection.execute(_MARK_RELEASED, bulksms_id)
