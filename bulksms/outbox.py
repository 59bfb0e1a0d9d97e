"""The outbox: charges and releases for the ledger in ds, written in the transaction that causes them.

An entry is sent at once as a job. If the job is lost, the entry is relayed from this table with exponential backoff
until ds has settled it; its reference makes repetition harmless.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from common.database import Database


class Entry(NamedTuple):
    """A change of credit for the ledger: kind is `charge` or `release`, amount in credits."""

    reference: UUID
    workspace_id: UUID
    bulksms_id: UUID
    kind: str
    amount: Decimal

    def as_job(self) -> dict[str, str]:
        """The entry as an argument of the job `deduct_credit`: strings only, the amount as a decimal string."""
        return {
            "reference": str(self.reference),
            "workspace_id": str(self.workspace_id),
            "campaign_id": str(self.bulksms_id),
            "kind": self.kind,
            "amount": str(self.amount),
        }


# Entries not settled in time, oldest first; each delay is twice the one before, up to a minute.
_OVERDUE = """
    UPDATE outbox
    SET relay_count = relay_count + 1,
        relay_at = now() + least($1 * 2 ^ least(relay_count, 10), 60) * interval '1 second'
    WHERE reference IN (
        SELECT reference FROM outbox
        WHERE settled_at IS NULL AND relay_at <= now() AND created_at <= now() - $1 * interval '1 second'
        ORDER BY relay_at
        LIMIT $2
        FOR UPDATE SKIP LOCKED
    )
    RETURNING reference, workspace_id, bulksms_id, kind, amount
"""

_SETTLE = "UPDATE outbox SET settled_at = now() WHERE reference = ANY($1) AND settled_at IS NULL"


async def overdue(database: Database, after: float, limit: int = 1000) -> list[Entry]:
    """Up to `limit` entries that are not settled `after` seconds after they were written, to be sent again."""
    async with database.connection() as connection:
        return [Entry(*row) for row in await connection.fetch(_OVERDUE, after, limit)]


async def settle(database: Database, references: Sequence[UUID]) -> None:
    """Record that the ledger in ds contains these entries."""
    async with database.connection() as connection:
        await connection.execute(_SETTLE, references)
