"""Erase a phone number from everything stored in salesdb, in one transaction; ds stores no phone numbers.

The contact stays, without number, name and fields, so that counters and books add up. A message that cannot have left
becomes `failed` with the error code `erased`: it is not sent and not charged. The receipt is an entry of the audit log
with a hash of the number, keyed with a random `proof` that only the receipt's holder has: with number and proof one can
show what was erased, while the database alone does not give the number away.
"""

import hmac
import secrets
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from bulksms.outbox import Entry
from common import audit_log
from common.audit_log import Actor
from common.database import COLLISION, Connection, Database

_FREE_TEXTS = ("name", "message", "value", "reason")  # members of responses that a client wrote
_MAX_ATTEMPTS = 5
_TIMEOUT = 600.0  # seconds for a statement that reads every contact

_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('erasure'))"

# Rows of contacts first, campaigns after them: the order in which delivery reports lock them.
_CONTACTS = """
    UPDATE bulksms_info AS info
    SET contact_number = '', contact_name = '',
        fields = CASE WHEN fields IS NOT NULL THEN array_fill(''::text, ARRAY[cardinality(fields)]) END,
        error_code = CASE WHEN strpos(error_code, $1) > 0 THEN 'erased' ELSE error_code END
    WHERE contact_number = $1
      AND ($2::uuid IS NULL OR bulksms_id IN (SELECT id FROM bulksms WHERE workspace_id = $2))
    RETURNING bulksms_id, seq
"""

_LOCK_CAMPAIGNS = "SELECT id FROM bulksms WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE"

# The batches that the carrier cannot have: once locked, no worker claims them before the end of this transaction.
_LOCK_BATCHES = """
    SELECT b.bulksms_id, b.batch_no
    FROM bulksms_batch AS b JOIN unnest($1::uuid[], $2::integer[]) AS erased (bulksms_id, seq)
      ON b.bulksms_id = erased.bulksms_id AND erased.seq BETWEEN first_seq AND last_seq
    WHERE b.state = 'pending' AND NOT b.uncertain
    ORDER BY b.bulksms_id, b.batch_no
    FOR UPDATE OF b
"""

# Messages that cannot have left, of campaigns that could still send them, fail. The last one ends its campaign: a
# started one is completed and releases its reservation, one not started is cancelled. See also `apply_reports`.
_FAIL = """
    WITH failed AS (
        UPDATE bulksms_info AS info SET sms_status = 'failed', error_code = 'erased', modified_at = now()
        FROM unnest($1::uuid[], $2::integer[]) AS erased (bulksms_id, seq), bulksms
        WHERE info.bulksms_id = erased.bulksms_id AND info.seq = erased.seq AND info.sms_status = 'queued'
          AND bulksms.id = info.bulksms_id AND bulksms.status NOT IN ('cancelled', 'completed')
          AND (bulksms.started_at IS NULL OR EXISTS (
              SELECT FROM bulksms_batch AS b
              WHERE b.bulksms_id = info.bulksms_id AND info.seq BETWEEN b.first_seq AND b.last_seq
                AND b.state = 'pending' AND NOT b.uncertain
          ))
        RETURNING info.bulksms_id
    ), change AS (
        SELECT bulksms_id, count(*) AS failed FROM failed GROUP BY bulksms_id
    ), counted AS (
        UPDATE bulksms
        SET queued_count = queued_count - failed, failed_count = failed_count + failed, modified_at = now(),
            status = CASE WHEN queued_count - failed + sent_count > unsent_count THEN status
                          WHEN started_at IS NULL THEN 'cancelled' ELSE 'completed' END,
            completed_at = CASE WHEN started_at IS NOT NULL AND queued_count - failed + sent_count <= unsent_count
                                THEN clock_timestamp() END
        FROM change
        WHERE id = bulksms_id
        RETURNING workspace_id, id, failed, CASE WHEN new.completed_at IS NOT NULL
                                                 THEN total_cost - charged - released ELSE 0 END AS unused
    ), entry AS (
        INSERT INTO outbox (workspace_id, bulksms_id, kind, amount, created_at)
        SELECT workspace_id, id, 'release', unused, clock_timestamp() FROM counted WHERE unused > 0
        RETURNING reference, workspace_id, bulksms_id, kind, amount
    )
    SELECT coalesce((SELECT sum(failed) FROM counted), 0) AS failed,
           (SELECT array_agg((reference, workspace_id, bulksms_id, kind, amount)) FROM entry) AS entries
"""

# Rejected values are as they stood in the file: national, with spaces or dashes. Digits are compared.
_REJECTED = """
    UPDATE bulksms_rejected SET value = ''
    WHERE strpos(regexp_replace(value, '[^0-9]', '', 'g'), $1) > 0
      AND ($2::uuid IS NULL OR bulksms_id IN (SELECT id FROM bulksms WHERE workspace_id = $2))
    RETURNING line
"""

_ANSWERS = """
    SELECT workspace_id, operation, key, answer FROM idempotency
    WHERE strpos(regexp_replace(convert_from(answer, 'UTF8'), '[^0-9]', '', 'g'), $1) > 0
      AND ($2::uuid IS NULL OR workspace_id = $2)
    FOR UPDATE
"""

_REWRITE = "UPDATE idempotency SET answer = $4 WHERE workspace_id = $1 AND operation = $2 AND key = $3"

# What a carrier said may hold the number; so may a campaign's name and text, which are left alone until it has ended.
_TEXTS = """
    WITH batch AS (
        UPDATE bulksms_batch SET error = replace(error, $1, '***')
        WHERE strpos(error, $1) > 0
          AND ($2::uuid IS NULL OR bulksms_id IN (SELECT id FROM bulksms WHERE workspace_id = $2))
    )
    UPDATE bulksms
    SET pause_reason = replace(pause_reason, $1, '***'),
        message = CASE WHEN completed_at IS NULL THEN message ELSE replace(message, $1, '***') END,
        name = CASE WHEN completed_at IS NULL THEN name ELSE replace(name, $1, '***') END
    WHERE (strpos(pause_reason, $1) > 0 OR strpos(message, $1) > 0 OR strpos(name, $1) > 0)
      AND ($2::uuid IS NULL OR workspace_id = $2)
"""


class ErasureRunningError(Exception):
    """Another erasure is under way: each reads every contact, so there is one at a time."""


class Receipt(NamedTuple):
    """What was erased: the numbers of rows by what they were. `proof` is the key of the hash, and is not stored."""

    id: UUID
    at: datetime
    number_hash: str
    proof: str
    erased: dict[str, int]


def number_hash(number: str, proof: str) -> str:
    """HMAC-SHA256 of a number in E.164, in hex, keyed with a receipt's proof."""
    return hmac.digest(proof.encode(), number.encode(), "sha256").hex()


async def erase(
    database: Database, number: str, national: str, workspace_id: UUID | None, actor: Actor
) -> tuple[Receipt, list[Entry]]:
    """Erase a number (E.164; `national`: its digits without the country code) in a workspace, or everywhere (None).

    Returns the receipt and the outbox entries of campaigns that end with it. Raises ErasureRunningError.
    """
    for _ in range(_MAX_ATTEMPTS - 1):
        try:
            return await _erase(database, number, national, workspace_id, actor)
        except COLLISION:
            continue
    return await _erase(database, number, national, workspace_id, actor)


async def _erase(
    database: Database, number: str, national: str, workspace_id: UUID | None, actor: Actor
) -> tuple[Receipt, list[Entry]]:
    async with database.transaction() as connection:
        if not await connection.fetchval(_LOCK):
            raise ErasureRunningError("another number is being erased")
        contacts = await connection.fetch(_CONTACTS, number, workspace_id, timeout=_TIMEOUT)
        ids, seqs = [row["bulksms_id"] for row in contacts], [row["seq"] for row in contacts]
        await connection.fetch(_LOCK_CAMPAIGNS, ids)
        await connection.fetch(_LOCK_BATCHES, ids, seqs)
        failed = await connection.fetchrow(_FAIL, ids, seqs)
        assert failed is not None
        rejected = await connection.fetch(_REJECTED, national, workspace_id, timeout=_TIMEOUT)
        erased = {
            "contacts": len(contacts),
            "unsent": int(failed["failed"]),
            "rejected": len(rejected),
            "answers": await _erase_answers(connection, national, workspace_id),
        }
        await connection.execute(_TEXTS, number, workspace_id, timeout=_TIMEOUT)
        proof = secrets.token_urlsafe(32)
        hashed = number_hash(number, proof)
        entry_id, at = await audit_log.write(
            connection,
            actor,
            "person.erase",
            workspace_id=workspace_id,
            object_id=None,
            number_hash=hashed,
            erased=erased,
        )
    return Receipt(entry_id, at, hashed, proof, erased), [Entry(*entry) for entry in failed["entries"] or ()]


async def _erase_answers(connection: Connection, national: str, workspace_id: UUID | None) -> int:
    """Erase the number from the rejected rows, the name and the text in responses stored by idempotency key."""
    rows = await connection.fetch(_ANSWERS, national, workspace_id, timeout=_TIMEOUT)
    for row in rows:
        answer = msgspec.json.decode(row["answer"])
        for part in (answer, *answer.get("rejected_rows", ())):
            part.update({name: "" for name in _FREE_TEXTS if _holds(part.get(name, ""), national)})
        await connection.execute(
            _REWRITE, row["workspace_id"], row["operation"], row["key"], msgspec.json.encode(answer)
        )
    return len(rows)


def _holds(text: str, digits: str) -> bool:
    """Whether the text holds these digits, however they are separated."""
    return digits in "".join(character for character in text if character.isdigit())
