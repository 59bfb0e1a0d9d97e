"""What becomes of delivery reports: one statement that applies any number of them, and counts, charges and completes.

A report moves its row only if its status is greater (see `SmsStatus`); everything else follows from the rows that did
move, in the same transaction, so that no crash can part a status from its charge.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from bulksms.outbox import Entry
from bulksms.status import SmsStatus
from common.database import COLLISION, Connection, Database


class DeliveryReport(NamedTuple):
    """What the carrier reports of the message of row (bulksms_id, seq); `reported_at` is the carrier's own time."""

    bulksms_id: UUID
    seq: int
    status: SmsStatus
    error_code: str | None
    reported_at: datetime | None = None


class Applied(NamedTuple):
    """What a batch of reports did: the positions in it that were stale or unknown, and what is now owed to ds."""

    stale: list[int]
    unknown: list[int]
    entries: list[Entry]


_ENDS = """(
    started_at IS NOT NULL AND completed_at IS NULL
    AND queued_count + tally.queued + sent_count + tally.sent <= unsent_count
)"""

# `report`: of several reports on one message the furthest counts, and rows are taken in the order of their key.
# `moved`:   the guard stands beside the write; old and new tell how the status moved, also when another transaction
#            moved the row a moment ago.
# `counted`: one update a campaign for all its messages; campaigns are locked in one order first, so that two flushes
#            never wait for each other. The last final row ends the campaign; one that was cancelled does not wait for
#            what it will never send.
# `entry`:   a charge for what has left (from `sent` on, once), a release of what will not be needed.
_APPLY = f"""
    WITH incoming AS (
        SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[]::sms_status[], $4::text[])
            WITH ORDINALITY AS r (bulksms_id, seq, status, error_code, position)
    ), report AS (
        SELECT DISTINCT ON (bulksms_id, seq) * FROM incoming
        ORDER BY bulksms_id, seq, status DESC, coalesce(error_code, '') DESC, position
    ), moved AS (
        UPDATE bulksms_info AS info
        SET sms_status = report.status, error_code = report.error_code, modified_at = now()
        FROM report
        WHERE info.bulksms_id = report.bulksms_id AND info.seq = report.seq
          AND (report.status, coalesce(report.error_code, '')) > (info.sms_status, coalesce(info.error_code, ''))
        RETURNING info.bulksms_id, info.sms_cost, report.position, old.sms_status AS was, new.sms_status AS now
    ), tally AS (
        SELECT bulksms_id,
               -count(*) FILTER (WHERE was = 'queued') AS queued,
               count(*) FILTER (WHERE now = 'failed') - count(*) FILTER (WHERE was = 'failed') AS failed,
               count(*) FILTER (WHERE now = 'sent') - count(*) FILTER (WHERE was = 'sent') AS sent,
               count(*) FILTER (WHERE now = 'undelivered') - count(*) FILTER (WHERE was = 'undelivered') AS undelivered,
               count(*) FILTER (WHERE now = 'delivered') - count(*) FILTER (WHERE was = 'delivered') AS delivered,
               coalesce(sum(sms_cost) FILTER (WHERE was < 'sent' AND now >= 'sent'), 0) AS charge
        FROM moved
        GROUP BY bulksms_id
    ), locked AS (
        SELECT id FROM bulksms WHERE id IN (SELECT bulksms_id FROM tally) ORDER BY id FOR NO KEY UPDATE
    ), counted AS (
        UPDATE bulksms
        SET queued_count = queued_count + tally.queued,
            failed_count = failed_count + tally.failed,
            sent_count = sent_count + tally.sent,
            undelivered_count = undelivered_count + tally.undelivered,
            delivered_count = delivered_count + tally.delivered,
            charged = charged + tally.charge,
            status = CASE WHEN {_ENDS} AND status <> 'cancelled' THEN 'completed' ELSE status END,
            completed_at = CASE WHEN {_ENDS} THEN clock_timestamp() ELSE completed_at END,
            modified_at = now()
        FROM tally JOIN locked ON locked.id = tally.bulksms_id
        WHERE bulksms.id = tally.bulksms_id
        RETURNING bulksms.workspace_id, bulksms.id, tally.charge,
                  CASE WHEN old.completed_at IS NULL AND new.completed_at IS NOT NULL
                       THEN new.total_cost - new.charged - new.released ELSE 0 END AS unused
    ), entry AS (
        INSERT INTO outbox (workspace_id, bulksms_id, kind, amount, created_at)
        SELECT workspace_id, id, 'charge', charge, clock_timestamp() FROM counted WHERE charge > 0
        UNION ALL
        SELECT workspace_id, id, 'release', unused, clock_timestamp() FROM counted WHERE unused > 0
        RETURNING reference, workspace_id, bulksms_id, kind, amount
    )
    SELECT (SELECT array_agg((reference, workspace_id, bulksms_id, kind, amount)) FROM entry) AS entries,
           (SELECT array_agg(position) FROM incoming
            WHERE position NOT IN (SELECT position FROM moved)) AS unmoved
"""

_UNKNOWN = """
    SELECT position FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS r (bulksms_id, seq, position)
    WHERE NOT EXISTS (
        SELECT FROM bulksms_info AS info WHERE info.bulksms_id = r.bulksms_id AND info.seq = r.seq
    )
"""

_TRIES = 5


async def apply(database: Database, reports: Sequence[DeliveryReport]) -> Applied:
    """Commit the reports; when this returns they are on disk.

    Two calls that cross on the same rows may stand in each other's way; the one that PostgreSQL ends is run again.
    """
    for _ in range(_TRIES - 1):
        try:
            return await _apply(database, reports)
        except COLLISION:
            continue
    return await _apply(database, reports)


async def _apply(database: Database, reports: Sequence[DeliveryReport]) -> Applied:
    async with database.connection() as connection:
        row = await connection.fetchrow(_APPLY, *_columns(reports))
        assert row is not None
        unmoved = [position - 1 for position in row["unmoved"] or ()]
        unknown = await _unknown(connection, reports, unmoved) if unmoved else set()
    return Applied(
        stale=[position for position in unmoved if position not in unknown],
        unknown=sorted(unknown),
        entries=[Entry(*entry) for entry in row["entries"] or ()],
    )


def _columns(reports: Sequence[DeliveryReport]) -> tuple[list[UUID], list[int], list[str], list[str | None]]:
    return (
        [report.bulksms_id for report in reports],
        [report.seq for report in reports],
        [report.status for report in reports],
        [report.error_code for report in reports],
    )


async def _unknown(connection: Connection, reports: Sequence[DeliveryReport], positions: list[int]) -> set[int]:
    rows = await connection.fetch(
        _UNKNOWN, [reports[p].bulksms_id for p in positions], [reports[p].seq for p in positions], positions
    )
    return {row["position"] for row in rows}
