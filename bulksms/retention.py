"""Retention: delete the personal data of campaigns that ended long ago; counters, charges and books stay.

Rows are deleted, not anonymised in place: a deletion frees the space, while an update would write every row again and
keep it for ever. So that the books can trust the counters of a purged campaign, these are compared with the rows in
the statement that begins the purge; a campaign that does not add up is not purged. Contacts then go in short
transactions, with pauses, so that callbacks are not delayed. `purge_pending` lets an interrupted purge continue.
A delivery report for a deleted row is `unknown`; one for a row that is still there is applied as always.
"""

import asyncio
import time
from uuid import UUID

import structlog

from common import audit_log
from common.audit_log import Actor
from common.database import Connection, Database

log = structlog.get_logger()

_BATCH = 2_000  # contacts deleted in one transaction
_PAUSE = 0.05  # seconds between two transactions

_DUE = """
    SELECT bulksms.id FROM bulksms LEFT JOIN workspace_retention AS own USING (workspace_id)
    WHERE completed_at IS NOT NULL AND purged_at IS NULL AND coalesce(own.days, $1) > 0
      AND completed_at < now() - coalesce(own.days, $1) * interval '1 day'
    ORDER BY completed_at
"""

_BEGIN = """
    UPDATE bulksms
    SET purged_at = now(), purge_pending = true, message = '', pause_reason = NULL
    FROM (
        SELECT count(*) FILTER (WHERE sms_status = 'queued') AS queued,
               count(*) FILTER (WHERE sms_status = 'sent') AS sent,
               count(*) FILTER (WHERE sms_status = 'failed') AS failed,
               count(*) FILTER (WHERE sms_status = 'delivered') AS delivered,
               count(*) FILTER (WHERE sms_status = 'undelivered') AS undelivered,
               coalesce(sum(sms_cost) FILTER (WHERE sms_status >= 'sent'), 0) AS cost
        FROM bulksms_info WHERE bulksms_id = $1
    ) AS rows
    WHERE id = $1 AND completed_at IS NOT NULL AND purged_at IS NULL
      AND (queued_count, sent_count, failed_count, delivered_count, undelivered_count, charged)
          = (queued, sent, failed, delivered, undelivered, cost)
    RETURNING workspace_id, contact_count
"""

_PENDING = "SELECT id FROM bulksms WHERE purge_pending ORDER BY id"

_FIRST_SEQ = "SELECT min(seq) FROM bulksms_info WHERE bulksms_id = $1"

_DELETE_CONTACTS = "DELETE FROM bulksms_info WHERE bulksms_id = $1 AND seq >= $2 AND seq < $2 + $3::integer"

_DELETE_REJECTED = """
    DELETE FROM bulksms_rejected WHERE bulksms_id = $1 AND line IN (
        SELECT line FROM bulksms_rejected WHERE bulksms_id = $1 ORDER BY line LIMIT $2
    )
"""

_FINISH = """
    WITH batch AS (DELETE FROM bulksms_batch WHERE bulksms_id = $1)
    UPDATE bulksms SET purge_pending = false WHERE id = $1
"""

_SET = """
    INSERT INTO workspace_retention (workspace_id, days) VALUES ($1, $2)
    ON CONFLICT (workspace_id) DO UPDATE SET days = excluded.days
"""


async def purge(database: Database, days: int, seconds: float, actor: Actor) -> int:
    """Purge campaigns that ended `days` ago (0: never), or as long ago as their workspace has set.

    Works for about `seconds`; the next call continues. Returns the number of campaigns whose purge was finished.
    """
    end = time.monotonic() + seconds
    purged = 0
    async with database.connection() as connection:
        due = [row["id"] for row in await connection.fetch(_DUE, days)]
        pending = [row["id"] for row in await connection.fetch(_PENDING)]
    for bulksms_id in [*pending, *due]:
        if time.monotonic() > end:
            break
        if bulksms_id in pending or await _begin(database, bulksms_id, actor):
            purged += await _delete(database, bulksms_id, end)
    return purged


async def _begin(database: Database, bulksms_id: UUID, actor: Actor) -> bool:
    """Delete the text, and mark the rows for deletion, if the counters agree with them."""
    async with database.transaction() as connection:
        row = await connection.fetchrow(_BEGIN, bulksms_id)
        if row is None:
            log.error("campaign not purged: its counters differ from its rows, see audit", bulksms_id=str(bulksms_id))
            return False
        await audit_log.write(
            connection,
            actor,
            "campaign.purge",
            workspace_id=row["workspace_id"],
            object_id=bulksms_id,
            contacts=row["contact_count"],
        )
    return True


async def _delete(database: Database, bulksms_id: UUID, end: float) -> bool:
    """Delete the rows in batches until `end`; whether all are gone."""
    async with database.connection() as connection:
        first: int | None = await connection.fetchval(_FIRST_SEQ, bulksms_id)
        while first is not None:
            await connection.execute(_DELETE_CONTACTS, bulksms_id, first, _BATCH)
            if not await _may_continue(end):
                return False
            first = await _next_seq(connection, bulksms_id, first + _BATCH)
        while await connection.execute(_DELETE_REJECTED, bulksms_id, _BATCH) != "DELETE 0":
            if not await _may_continue(end):
                return False
        await connection.execute(_FINISH, bulksms_id)
    return True


async def _next_seq(connection: Connection, bulksms_id: UUID, after: int) -> int | None:
    # From `after` on, so that the index entries of deleted rows are not read again.
    seq: int | None = await connection.fetchval(f"{_FIRST_SEQ} AND seq >= $2", bulksms_id, after)
    return seq


async def _may_continue(end: float) -> bool:
    await asyncio.sleep(_PAUSE)
    return time.monotonic() < end


async def set_days(database: Database, workspace_id: UUID, days: int, actor: Actor) -> None:
    """Keep the personal data of the workspace's ended campaigns for `days`; 0 means for ever."""
    async with database.transaction() as connection:
        await connection.execute(_SET, workspace_id, days)
        await audit_log.write(
            connection, actor, "retention.set", workspace_id=workspace_id, object_id=workspace_id, days=days
        )
