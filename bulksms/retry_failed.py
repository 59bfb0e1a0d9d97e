"""Create a new campaign from the failed contacts of an ended one."""

from uuid import UUID

from bulksms import quotas
from bulksms.campaigns import FIELDS, Campaign, from_row
from bulksms.idempotency import Key
from bulksms.lifecycle import WrongStateError
from bulksms.quotas import Quotas
from common import audit_log
from common.audit_log import Actor
from common.database import Connection


class NothingFailedError(Exception):
    """The campaign has no failed contacts."""


class AlreadyRetriedError(Exception):
    """The campaign has a retry that has not ended, with the id `retry`; None if it is just being created."""

    def __init__(self, retry: UUID | None) -> None:
        super().__init__(
            f"campaign {retry} already retries it: run it to its end, or delete it, before the next retry"
            if retry
            else "another request is creating a retry of it: wait until it is answered"
        )
        self.retry = retry


# Not waited for: the copy of many contacts takes long, and each request would hold a connection.
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended($1::text, 0))"

_OPEN_RETRY = "SELECT id FROM bulksms WHERE retry_of = $1 AND completed_at IS NULL AND deleted_at IS NULL LIMIT 1"

_CONTACTS = """
    INSERT INTO bulksms_info (bulksms_id, seq, contact_number, contact_name, fields, sms_cost)
    SELECT $2, row_number() OVER (ORDER BY seq) - 1, contact_number, contact_name, fields, sms_cost
    FROM bulksms_info
    WHERE bulksms_id = $1 AND sms_status = 'failed' AND contact_number <> ''  -- empty: erased
"""

_CAMPAIGN = f"""
    INSERT INTO bulksms (id, name, workspace_id, message, encoding, segments, row_count, contact_count, rejected_count,
                         duplicate_count, total_cost, queued_count, retry_of)
    SELECT $2, original.name, workspace_id, message, encoding, segments, contacts, contacts, 0, 0, cost, contacts,
           original.id
    FROM bulksms AS original,
         (SELECT count(*) AS contacts, sum(sms_cost) AS cost FROM bulksms_info WHERE bulksms_id = $2) AS failed
    WHERE original.id = $1
    RETURNING {FIELDS}
"""


async def create(connection: Connection, original: Campaign, limits: Quotas, actor: Actor) -> Campaign:
    """Copy the failed contacts of an ended campaign into a new one, at the same cost for each message.

    Raises WrongStateError, AlreadyRetriedError, NothingFailedError, QuotaExceededError: roll the transaction back.
    """
    if original.completed_at is None:
        raise WrongStateError(original.status)
    if not await connection.fetchval(_LOCK, f"retry of {original.id}"):
        raise AlreadyRetriedError(None)
    if existing := await connection.fetchval(_OPEN_RETRY, original.id):
        raise AlreadyRetriedError(existing)
    if original.failed_count == 0:
        raise NothingFailedError("the campaign has no failed contacts")
    await quotas.check(connection, original.workspace_id, limits, original.failed_count)
    new_id = await connection.fetchval("SELECT uuidv7()")
    copied = int((await connection.execute(_CONTACTS, original.id, new_id)).split()[-1])
    if not copied:
        raise NothingFailedError("the campaign has no failed contacts")
    await quotas.take(connection, original.workspace_id, limits, copied)
    created = from_row((await connection.fetch(_CAMPAIGN, original.id, new_id))[0])
    await audit_log.write(
        connection,
        actor,
        "campaign.retry",
        workspace_id=original.workspace_id,
        object_id=new_id,
        retry_of=str(original.id),
        contacts=created.contact_count,
    )
    return created


def idempotency_key(original: Campaign, key: str) -> Key:
    """A client's idempotency key for a retry of the campaign."""
    return Key(original.workspace_id, "retry", key, original.id.bytes)
