"""The batches of a campaign: ranges of its contacts that are submitted to the carrier together.

The state of a batch is committed before and after each call of the carrier, so that it is known after a crash:
`pending` (to be sent), `submitting` (a call was started: repeated only with an idempotent carrier, else it becomes
`unknown`), `submitted`, `refused`, or `closed` (expired, or cancelled before it was sent). `uncertain`: a call ended
without a response, so the carrier may have the batch. `attempt` is the fencing token: a worker whose lease has expired
holds an old one, and its writes match no row.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from common.database import Connection, Database


class Batch(NamedTuple):
    """A batch that this worker has claimed; `first_seq` and `last_seq` are inclusive."""

    bulksms_id: UUID
    batch_no: int
    first_seq: int
    last_seq: int
    attempt: int
    uncertain: bool = False  # an earlier call ended without a response

    @property
    def key(self) -> str:
        """The idempotency key of the batch, the same at every attempt."""
        return f"{self.bulksms_id.hex}-{self.batch_no}"

    @property
    def size(self) -> int:
        """Number of messages."""
        return self.last_seq - self.first_seq + 1


class Recipient(NamedTuple):
    """The columns of a contact that a message is rendered from."""

    seq: int
    contact_number: str
    fields: list[str] | None


_CREATE = """
    INSERT INTO bulksms_batch (bulksms_id, batch_no, first_seq, last_seq)
    SELECT id, n, n * $2::integer, least((n + 1) * $2::integer, contact_count) - 1
    FROM bulksms, generate_series(0, (contact_count - 1) / $2::integer) AS n
    WHERE id = $1
"""

# One worker gets a batch: the others skip the row while it is locked, and see its lease afterwards. In a paused or
# cancelled campaign only batches that the carrier may already have are submitted again.
_CLAIM = """
    UPDATE bulksms_batch
    SET state = 'submitting', attempt = attempt + 1, due_at = now() + $2 * interval '1 second',
        uncertain = uncertain OR state = 'submitting'
    WHERE (bulksms_id, batch_no) = (
        SELECT b.bulksms_id, b.batch_no
        FROM bulksms_batch AS b JOIN bulksms ON bulksms.id = b.bulksms_id
        WHERE b.bulksms_id = $1 AND bulksms.completed_at IS NULL
          AND (bulksms.status = 'inprogress' OR b.uncertain OR b.state = 'submitting')
          AND ($3 OR b.state = 'pending' AND NOT b.uncertain)
          AND b.state IN ('pending', 'submitting') AND b.due_at <= now()
        ORDER BY b.batch_no
        LIMIT 1
        FOR UPDATE OF b SKIP LOCKED
    )
    RETURNING bulksms_id, batch_no, first_seq, last_seq, attempt, uncertain
"""

_RECIPIENTS = """
    SELECT seq, contact_number, fields FROM bulksms_info
    WHERE bulksms_id = $1 AND seq BETWEEN $2 AND $3 AND contact_number <> ''  -- empty: erased
    ORDER BY seq
"""

_FINISH = """
    UPDATE bulksms_batch
    SET state = $4::text::batch_state, submitted_at = now(), error = $5, refused = $6
    WHERE bulksms_id = $1 AND batch_no = $2 AND attempt = $3 AND state = 'submitting'
"""

_POSTPONE = """
    UPDATE bulksms_batch
    SET state = 'pending', due_at = now() + $4 * interval '1 second', error = $5, uncertain = uncertain OR $6
    WHERE bulksms_id = $1 AND batch_no = $2 AND attempt = $3 AND state = 'submitting'
"""

# A call was started and its result was never committed. A carrier that is not idempotent must not be called again for
# such a batch, even if the earlier call went to one that is.
_MARK_ABANDONED = """
    UPDATE bulksms_batch
    SET state = 'unknown', submitted_at = now(), error = coalesce(error, 'the worker was lost during the submission')
    WHERE due_at <= now() AND (state = 'submitting' OR state = 'pending' AND uncertain)
"""

_CAMPAIGNS_TO_SEND = """
    SELECT id FROM bulksms
    WHERE (status IN ('inprogress', 'paused') OR status = 'cancelled' AND completed_at IS NULL)
      AND EXISTS (
          SELECT FROM bulksms_batch AS b
          WHERE b.bulksms_id = bulksms.id AND b.state IN ('pending', 'submitting') AND b.due_at <= now()
            AND (bulksms.status = 'inprogress' OR b.uncertain OR b.state = 'submitting')
      )
"""

# A campaign that has ended expects no more reports, but a late one may still come: a call that was under way counts as
# made.
_CLOSE_ENDED = """
    UPDATE bulksms_batch AS b
    SET state = 'closed', submitted_at = CASE WHEN b.state = 'submitting' THEN now() ELSE b.submitted_at END
    WHERE (SELECT completed_at FROM bulksms WHERE id = b.bulksms_id) IS NOT NULL
      AND (b.state IN ('submitted', 'unknown') AND b.submitted_at <= now() - $1 * interval '1 second'
           OR b.state IN ('pending', 'submitting') AND b.due_at <= now())
"""

_OVERDUE = """
    SELECT bulksms_id, batch_no, first_seq, last_seq, attempt FROM bulksms_batch
    WHERE state IN ('submitted', 'unknown') AND submitted_at <= now() - $1 * interval '1 second'
    ORDER BY submitted_at
    LIMIT $2
"""

_OVERDUE_SEQS = """
    SELECT seq FROM bulksms_info
    WHERE bulksms_id = $1 AND seq BETWEEN $2 AND $3 AND sms_status IN ('queued', 'sent')
    ORDER BY seq
"""

_CLOSE = "UPDATE bulksms_batch SET state = 'closed' WHERE bulksms_id = $1 AND batch_no = $2"


async def create(connection: Connection, bulksms_id: UUID, size: int) -> None:
    """Divide a campaign that starts into batches of `size` contacts."""
    await connection.execute(_CREATE, bulksms_id, size)


async def claim(database: Database, bulksms_id: UUID, lease: float, *, idempotent: bool) -> Batch | None:
    """Lease the next batch for `lease` seconds; None if no batch is due.

    With an idempotent carrier this includes batches that the carrier may already have.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_CLAIM, bulksms_id, lease, idempotent)
    return Batch(*row) if row else None


async def recipients(database: Database, batch: Batch) -> list[Recipient]:
    """The contacts of the batch, ordered by seq."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RECIPIENTS, batch.bulksms_id, batch.first_seq, batch.last_seq)
    return [Recipient(*row) for row in rows]


async def mark_submitted(database: Database, batch: Batch, refused: int, error: str | None) -> None:
    """Record that the carrier accepted the batch except `refused` of its messages; `error` is the reason for those."""
    await _finish(database, batch, "submitted", error, refused)


async def mark_unknown(database: Database, batch: Batch, error: str) -> None:
    """Record that the carrier may have the batch: its messages wait for a delivery report or for their expiry."""
    await _finish(database, batch, "unknown", error)


async def mark_refused(database: Database, batch: Batch, error: str) -> None:
    """Record that the carrier refused the batch: none of its messages was sent."""
    await _finish(database, batch, "refused", error, batch.size)


async def _finish(database: Database, batch: Batch, state: str, error: str | None, refused: int = 0) -> None:
    async with database.connection() as connection:
        await connection.execute(_FINISH, batch.bulksms_id, batch.batch_no, batch.attempt, state, error, refused)


async def postpone(database: Database, batch: Batch, delay: float, error: str, *, uncertain: bool) -> None:
    """Retry the batch after `delay` seconds; `uncertain`: the carrier may have it (and is idempotent)."""
    async with database.connection() as connection:
        await connection.execute(_POSTPONE, batch.bulksms_id, batch.batch_no, batch.attempt, delay, error, uncertain)


async def mark_abandoned(database: Database) -> None:
    """Mark submissions whose lease has expired `unknown`; only for a carrier that is not idempotent."""
    async with database.connection() as connection:
        await connection.execute(_MARK_ABANDONED)


async def campaigns_to_send(database: Database) -> list[UUID]:
    """The campaigns that have a batch due now."""
    async with database.connection() as connection:
        return [row["id"] for row in await connection.fetch(_CAMPAIGNS_TO_SEND)]


async def overdue(database: Database, validity: float, limit: int = 20) -> list[Batch]:
    """Batches submitted `validity` seconds ago or earlier: their missing delivery reports are no longer expected.

    Batches of campaigns that have ended are closed here instead.
    """
    async with database.connection() as connection:
        await connection.execute(_CLOSE_ENDED, validity)
        return [Batch(*row) for row in await connection.fetch(_OVERDUE, validity, limit)]


async def overdue_seqs(database: Database, batch: Batch) -> Sequence[int]:
    """The seqs of the batch whose messages have no final status."""
    async with database.connection() as connection:
        rows = await connection.fetch(_OVERDUE_SEQS, batch.bulksms_id, batch.first_seq, batch.last_seq)
    return [row["seq"] for row in rows]


async def close(database: Database, batch: Batch) -> None:
    """Close the batch: all its messages have a final status."""
    async with database.connection() as connection:
        await connection.execute(_CLOSE, batch.bulksms_id, batch.batch_no)
