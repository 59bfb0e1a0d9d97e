"""Apply received delivery reports, but only those on messages that may have left.

A message may have left once its batch was handed to the carrier: a call is under way, it was made, or its result is
unknown. Of a campaign that was not run, or a batch that was not submitted, there is nothing to report, whoever signs.
"""

from collections.abc import Sequence
from uuid import UUID

from bulksms import reports
from bulksms.reports import Applied, DeliveryReport
from common.database import Database

_MAX_REMEMBERED = 100_000  # batches

# All batches of a campaign but the last have as many contacts as the first one. While a call is under way it may still
# end with the certainty that nothing was taken; everything else is for good.
_HANDED_OVER = """
    SELECT r.position, r.bulksms_id, first.last_seq + 1 AS size, batch.batch_no,
           batch.submitted_at IS NOT NULL OR batch.uncertain AS is_final
    FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS r (bulksms_id, seq, position)
    JOIN bulksms_batch AS first ON first.bulksms_id = r.bulksms_id AND first.batch_no = 0
    JOIN bulksms_batch AS batch
        ON batch.bulksms_id = r.bulksms_id AND batch.batch_no = r.seq / (first.last_seq + 1)
    WHERE batch.submitted_at IS NOT NULL OR batch.uncertain OR batch.state = 'submitting'
"""


class _Batches:
    """The batches of one campaign that were handed over; each has `size` contacts."""

    __slots__ = ("numbers", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.numbers: set[int] = set()


class HandedOver:
    """Knows which batches were handed to the carrier.

    They are read once and remembered, since that never changes: a check in the statement that applies reports would
    make each flush a tenth slower.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._campaigns: dict[UUID, _Batches] = {}
        self._remembered = 0

    async def apply(self, received: Sequence[DeliveryReport]) -> Applied:
        """Apply the reports and commit; those on messages that cannot have left count as unknown."""
        unsent = await self._unsent(received)
        if not unsent:
            return await reports.apply(self._database, received)
        rest = [position for position in range(len(received)) if position not in unsent]
        applied = await reports.apply(self._database, [received[p] for p in rest]) if rest else Applied([], [], [])
        return Applied(
            [rest[position] for position in applied.stale],
            sorted([*unsent, *(rest[position] for position in applied.unknown)]),
            applied.entries,
        )

    async def _unsent(self, received: Sequence[DeliveryReport]) -> set[int]:
        """The positions of reports on messages that cannot have left."""
        campaigns = self._campaigns
        unsent = set()
        for position, report in enumerate(received):
            batches = campaigns.get(report.bulksms_id)
            if batches is None or report.seq // batches.size not in batches.numbers:
                unsent.add(position)
        return unsent - await self._look_up(received, sorted(unsent)) if unsent else unsent

    async def _look_up(self, received: Sequence[DeliveryReport], positions: list[int]) -> set[int]:
        """The positions, of these, whose batches were handed over."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                _HANDED_OVER,
                [received[p].bulksms_id for p in positions],
                [received[p].seq for p in positions],
                positions,
            )
        for row in rows:
            if row["is_final"]:
                self._remember(row["bulksms_id"], row["size"], row["batch_no"])
        return {row["position"] for row in rows}

    def _remember(self, bulksms_id: UUID, size: int, batch_no: int) -> None:
        if self._remembered >= _MAX_REMEMBERED:
            self._campaigns.clear()
            self._remembered = 0
        batches = self._campaigns.setdefault(bulksms_id, _Batches(size))
        if batch_no not in batches.numbers:
            batches.numbers.add(batch_no)
            self._remembered += 1
