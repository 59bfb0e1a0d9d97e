"""Apply delivery reports: one statement updates messages, campaign counters, charges and completion.

A report changes a message only if its status is greater (see `SmsStatus`). Counters and outbox entries are derived from
the changed rows in the same transaction, so a crash cannot separate a status from its charge.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from bulksms.outbox import Entry
from bulksms.status import SmsStatus
from common.database import COLLISION, Connection, Database


class DeliveryReport(NamedTuple):
    """The carrier's report on the message (bulksms_id, seq); `reported_at` is the time that the carrier states."""

    bulksms_id: UUID
    seq: int
    status: SmsStatus
    error_code: str | None
    reported_at: datetime | None = None


class Applied(NamedTuple):
    """The result of applying reports: the positions that were stale or unknown, and the new outbox entries."""

    stale: list[int]
    unknown: list[int]
    entries: list[Entry]


_IS_LAST = """(
    started_at IS NOT NULL AND completed_at IS NULL
    AND queued_count + change.queued + sent_count + change.sent <= unsent_count
)"""

# `report`:  of several reports on one message the greatest status is used; rows are updated in key order.
# `updated`: the condition stands in the UPDATE, and old and new are the row's versions there, so a concurrent
#            transaction on the same row is counted correctly.
# `counted`: one update per campaign for all its messages; campaigns are locked in id order first, so that two flushes
#            cannot deadlock. The last final message completes the campaign; a cancelled one excludes unsent messages.
# `entry`:   a charge for each message sent (status `sent` or greater, once), a release of the unused reservation.
_APPLY = f"""
    WITH incoming AS (
        SELECT * FROM unnest($1::uuid[], $2::integer[], $3::text[]::sms_status[], $4::text[])
            WITH ORDINALITY AS r (bulksms_id, seq, status, error_code, position)
    ), report AS (
        SELECT DISTINCT ON (bulksms_id, seq) * FROM incoming
        ORDER BY bulksms_id, seq, status DESC, coalesce(error_code, '') DESC, position
    ), updated AS (
        UPDATE bulksms_info AS info
        SET sms_status = report.status, error_code = report.error_code, modified_at = now()
        FROM report
        WHERE info.bulksms_id = report.bulksms_id AND info.seq = report.seq
          AND (report.status, coalesce(report.error_code, '')) > (info.sms_status, coalesce(info.error_code, ''))
        RETURNING info.bulksms_id, info.sms_cost, report.position, old.sms_status AS before, new.sms_status AS after
    ), change AS (
        SELECT bulksms_id,
               -count(*) FILTER (WHERE before = 'queued') AS queued,
               count(*) FILTER (WHERE after = 'failed') - count(*) FILTER (WHERE before = 'failed') AS failed,
               count(*) FILTER (WHERE after = 'sent') - count(*) FILTER (WHERE before = 'sent') AS sent,
               count(*) FILTER (WHERE after = 'undelivered') - count(*) FILTER (WHERE before = 'undelivered')
                   AS undelivered,
               count(*) FILTER (WHERE after = 'delivered') - count(*) FILTER (WHERE before = 'delivered') AS delivered,
               coalesce(sum(sms_cost) FILTER (WHERE before < 'sent' AND after >= 'sent'), 0) AS charge
        FROM updated
        GROUP BY bulksms_id
    ), locked AS (
        SELECT id FROM bulksms WHERE id IN (SELECT bulksms_id FROM change) ORDER BY id FOR NO KEY UPDATE
    ), counted AS (
        UPDATE bulksms
        SET queued_count = queued_count + change.queued,
            failed_count = failed_count + change.failed,
            sent_count = sent_count + change.sent,
            undelivered_count = undelivered_count + change.undelivered,
            delivered_count = delivered_count + change.delivered,
            charged = charged + change.charge,
            status = CASE WHEN {_IS_LAST} AND status <> 'cancelled' THEN 'completed' ELSE status END,
            completed_at = CASE WHEN {_IS_LAST} THEN clock_timestamp() ELSE completed_at END,
            modified_at = now()
        FROM change JOIN locked ON locked.id = change.bulksms_id
        WHERE bulksms.id = change.bulksms_id
        RETURNING bulksms.workspace_id, bulksms.id, change.charge,
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
            WHERE position NOT IN (SELECT position FROM updated)) AS not_updated
"""

_UNKNOWN = """
    SELECT position FROM unnest($1::uuid[], $2::integer[], $3::bigint[]) AS r (bulksms_id, seq, position)
    WHERE NOT EXISTS (
        SELECT FROM bulksms_info AS info WHERE info.bulksms_id = r.bulksms_id AND info.seq = r.seq
    )
"""

_MAX_ATTEMPTS = 5


async def apply(database: Database, reports: Sequence[DeliveryReport]) -> Applied:
    """Apply the reports and commit.

    Concurrent calls on the same rows may deadlock or conflict; the one that PostgreSQL aborts is retried.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return await _apply(database, reports)
        except COLLISION:
            continue
    return await _apply(database, reports)


async def _apply(database: Database, reports: Sequence[DeliveryReport]) -> Applied:
    async with database.connection() as connection:
        row = await connection.fetchrow(_APPLY, *_columns(reports))
        assert row is not None
        not_updated = [position - 1 for position in row["not_updated"] or ()]
        unknown = await _unknown(connection, reports, not_updated) if not_updated else set()
    return Applied(
        stale=[position for position in not_updated if position not in unknown],
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
