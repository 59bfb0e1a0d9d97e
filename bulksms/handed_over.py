"""Apply received delivery reports, but only those on messages that may have left.

A message may have left once its batch was handed to the carrier: a call is under way, it was made, or its result is
unknown. Of a campaign that was not run, or a batch that was not submitted, there is nothing to report, whoever signs.
"""

from collections.abc import Sequence
from uuid import UUID

from bulksms import apply_reports
from bulksms.apply_reports import Applied, DeliveryReport
from common.database import Database

_MAX_REMEMBERED = 100_000  # batches

# The batches that contain a range of seq and were handed over. All batches of a campaign but the last have as many
# contacts as the first one. While a call is under way it may still end with the certainty that nothing was taken;
# everything else is for good.
_HANDED_OVER = """
    SELECT batch.bulksms_id, first.last_seq + 1 AS size, batch.batch_no,
           batch.submitted_at IS NOT NULL OR batch.uncertain AS is_final
    FROM unnest($1::uuid[], $2::integer[], $3::integer[]) AS span (bulksms_id, low, high)
    JOIN bulksms_batch AS first ON first.bulksms_id = span.bulksms_id AND first.batch_no = 0
    JOIN bulksms_batch AS batch
        ON batch.bulksms_id = span.bulksms_id
        AND batch.batch_no BETWEEN span.low / (first.last_seq + 1) AND span.high / (first.last_seq + 1)
    WHERE batch.submitted_at IS NOT NULL OR batch.uncertain OR batch.state = 'submitting'
"""


class _Batches:
    """The batches of one campaign that were handed over; each has `size` contacts."""

    __slots__ = ("numbers", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.numbers: set[int] = set()

    def contain(self, seq: int) -> bool:
        """Whether the batch of this contact was handed over."""
        return seq // self.size in self.numbers


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
            return await apply_reports.apply(self._database, received)
        rest = [position for position in range(len(received)) if position not in unsent]
        applied = (
            await apply_reports.apply(self._database, [received[p] for p in rest]) if rest else Applied([], [], [])
        )
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
            if batches is None or not batches.contain(report.seq):
                unsent.add(position)
        return unsent and await self._look_up(received, unsent)

    async def _look_up(self, received: Sequence[DeliveryReport], positions: set[int]) -> set[int]:
        """The positions, of these, whose batches were not handed over, according to the database."""
        seqs: dict[UUID, list[int]] = {}
        for position in positions:
            seqs.setdefault(received[position].bulksms_id, []).append(received[position].seq)
        low, high = [min(each) for each in seqs.values()], [max(each) for each in seqs.values()]
        async with self._database.connection() as connection:
            rows = await connection.fetch(_HANDED_OVER, list(seqs), low, high)
        found: dict[UUID, _Batches] = {}
        for bulksms_id, size, batch_no, is_final in rows:
            found.setdefault(bulksms_id, _Batches(size)).numbers.add(batch_no)
            if is_final:
                self._remember(bulksms_id, size, batch_no)
        return {
            position
            for position in positions
            if (batches := found.get(received[position].bulksms_id)) is None
            or not batches.contain(received[position].seq)
        }

    def _remember(self, bulksms_id: UUID, size: int, batch_no: int) -> None:
        if self._remembered >= _MAX_REMEMBERED:
            self._campaigns.clear()
            self._remembered = 0
        batches = self._campaigns.setdefault(bulksms_id, _Batches(size))
        if batch_no not in batches.numbers:
            batches.numbers.add(batch_no)
            self._remembered += 1
