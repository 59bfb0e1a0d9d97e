"""The batches of a campaign: ranges of its contacts on their way to the carrier.

What a batch has reached is committed before and after the carrier is called, so that after a crash each is known to be
`pending` (to be sent), `submitting` (a call was begun: sent again only to a carrier that is idempotent, else
`unknown`), `submitted`, `refused`, or `closed` (expired, or cancelled before it was sent). `uncertain`: a call ended
without an answer, so it may have left. `attempt` is the fencing token: a worker that lost its turn holds an old one and
cannot write.
"""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from common.database import Connection, Database


class Batch(NamedTuple):
    """A batch that this worker has claimed; first and last seq are both in it."""

    bulksms_id: UUID
    batch_no: int
    first_seq: int
    last_seq: int
    attempt: int
    uncertain: bool = False  # an earlier call ended without an answer

    @property
    def key(self) -> str:
        """The idempotency key: the same batch has the same key at every attempt."""
        return f"{self.bulksms_id.hex}-{self.batch_no}"

    @property
    def size(self) -> int:
        """How many messages are in it."""
        return self.last_seq - self.first_seq + 1


class Recipient(NamedTuple):
    """What the carrier needs of a row."""

    seq: int
    contact_number: str
    fields: list[str] | None


_CREATE = """
    INSERT INTO bulksms_batch (bulksms_id, batch_no, first_seq, last_seq)
    SELECT id, n, n * $2::integer, least((n + 1) * $2::integer, contact_count) - 1
    FROM bulksms, generate_series(0, (contact_count - 1) / $2::integer) AS n
    WHERE id = $1
"""

# One worker gets a batch: the others skip the row while it is locked, and see it leased afterwards. Of a campaign that
# was stopped only what may have left is followed up.
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
    WHERE bulksms_id = $1 AND seq BETWEEN $2 AND $3
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

# A call was begun and nobody knows its end. A carrier that is not idempotent is never called again blindly, also where
# one that is has been before it.
_ABANDON = """
    UPDATE bulksms_batch
    SET state = 'unknown', submitted_at = now(), error = coalesce(error, 'the worker was lost during the submission')
    WHERE due_at <= now() AND (state = 'submitting' OR state = 'pending' AND uncertain)
"""

_UNFINISHED = """
    SELECT id FROM bulksms
    WHERE (status IN ('inprogress', 'paused') OR status = 'cancelled' AND completed_at IS NULL)
      AND EXISTS (
          SELECT FROM bulksms_batch AS b
          WHERE b.bulksms_id = bulksms.id AND b.state IN ('pending', 'submitting') AND b.due_at <= now()
            AND (bulksms.status = 'inprogress' OR b.uncertain OR b.state = 'submitting')
      )
"""

# Of a campaign that has ended no batch waits for anything.
_CLOSE_ENDED = """
    UPDATE bulksms_batch AS b SET state = 'closed'
    WHERE (SELECT completed_at FROM bulksms WHERE id = b.bulksms_id) IS NOT NULL
      AND (b.state IN ('submitted', 'unknown') AND b.submitted_at <= now() - $1 * interval '1 second'
           OR b.state IN ('pending', 'submitting') AND b.due_at <= now())
"""

_SILENT = """
    SELECT bulksms_id, batch_no, first_seq, last_seq, attempt FROM bulksms_batch
    WHERE state IN ('submitted', 'unknown') AND submitted_at <= now() - $1 * interval '1 second'
    ORDER BY submitted_at
    LIMIT $2
"""

_SILENT_ROWS = """
    SELECT seq FROM bulksms_info
    WHERE bulksms_id = $1 AND seq BETWEEN $2 AND $3 AND sms_status IN ('queued', 'sent')
    ORDER BY seq
"""

_CLOSE = "UPDATE bulksms_batch SET state = 'closed' WHERE bulksms_id = $1 AND batch_no = $2"


async def create(connection: Connection, bulksms_id: UUID, size: int) -> None:
    """Cut a campaign that starts into batches of `size` contacts."""
    await connection.execute(_CREATE, bulksms_id, size)


async def claim(database: Database, bulksms_id: UUID, lease: float, *, idempotent: bool) -> Batch | None:
    """Take the next batch for `lease` seconds; None if none is to be had now.

    With a carrier that is idempotent, also one that may have left.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_CLAIM, bulksms_id, lease, idempotent)
    return Batch(*row) if row else None


async def recipients(database: Database, batch: Batch) -> list[Recipient]:
    """The batch's recipients, in the order of seq."""
    async with database.connection() as connection:
        rows = await connection.fetch(_RECIPIENTS, batch.bulksms_id, batch.first_seq, batch.last_seq)
    return [Recipient(*row) for row in rows]


async def submitted(database: Database, batch: Batch, refused: int, error: str | None) -> None:
    """The carrier has accepted the batch but for `refused` messages of it, `error` says why."""
    await _finish(database, batch, "submitted", error, refused)


async def unknown(database: Database, batch: Batch, error: str) -> None:
    """The carrier was called and may or may not have the batch: its messages wait for a report or their expiry."""
    await _finish(database, batch, "unknown", error)


async def refused(database: Database, batch: Batch, error: str) -> None:
    """The carrier will not take the batch; its messages have not left."""
    await _finish(database, batch, "refused", error, batch.size)


async def _finish(database: Database, batch: Batch, state: str, error: str | None, refused: int = 0) -> None:
    async with database.connection() as connection:
        await connection.execute(_FINISH, batch.bulksms_id, batch.batch_no, batch.attempt, state, error, refused)


async def postpone(database: Database, batch: Batch, delay: float, error: str, *, uncertain: bool) -> None:
    """Another try after `delay` seconds; `uncertain` if the batch may have left, and sending it again is harmless."""
    async with database.connection() as connection:
        await connection.execute(_POSTPONE, batch.bulksms_id, batch.batch_no, batch.attempt, delay, error, uncertain)


async def abandon(database: Database) -> None:
    """Mark the batches of lost workers `unknown`; only for a carrier that is not idempotent."""
    async with database.connection() as connection:
        await connection.execute(_ABANDON)


async def unfinished(database: Database) -> list[UUID]:
    """The campaigns that have a batch to be sent now."""
    async with database.connection() as connection:
        return [row["id"] for row in await connection.fetch(_UNFINISHED)]


async def silent(database: Database, validity: float, limit: int = 20) -> list[Batch]:
    """Batches that left `validity` seconds ago: what they still wait for will not come.

    Those of campaigns that have ended wait for nothing, and are closed.
    """
    async with database.connection() as connection:
        await connection.execute(_CLOSE_ENDED, validity)
        return [Batch(*row) for row in await connection.fetch(_SILENT, validity, limit)]


async def silent_rows(database: Database, batch: Batch) -> Sequence[int]:
    """The seqs of a batch whose messages have no final status."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SILENT_ROWS, batch.bulksms_id, batch.first_seq, batch.last_seq)
    return [row["seq"] for row in rows]


async def close(database: Database, batch: Batch) -> None:
    """All rows of the batch are final."""
    async with database.connection() as connection:
        await connection.execute(_CLOSE, batch.bulksms_id, batch.batch_no)
