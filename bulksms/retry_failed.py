"""Create a new campaign from the failed contacts of an ended one."""

from bulksms.campaigns import FIELDS, Campaign, from_row
from bulksms.idempotency import Key
from bulksms.lifecycle import WrongStateError
from common import audit_log
from common.audit_log import Actor
from common.database import Connection


class NothingFailedError(Exception):
    """The campaign has no failed contacts."""


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


async def create(connection: Connection, original: Campaign, actor: Actor) -> Campaign:
    """Copy the failed contacts of an ended campaign into a new one, at the same cost for each message.

    Raises WrongStateError, NothingFailedError.
    """
    if original.completed_at is None:
        raise WrongStateError(original.status)
    new_id = await connection.fetchval("SELECT uuidv7()")
    if await connection.execute(_CONTACTS, original.id, new_id) == "INSERT 0 0":
        raise NothingFailedError("the campaign has no failed contacts")
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
