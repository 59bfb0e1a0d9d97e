"""Makes a new campaign of the contacts that a campaign failed to reach."""

from bulksms.campaigns import FIELDS, Campaign, from_row
from bulksms.idempotency import Key
from bulksms.lifecycle import WrongStateError
from common.database import Connection


class NothingFailedError(Exception):
    """The campaign has no failed contacts."""


_CONTACTS = """
    INSERT INTO bulksms_info (bulksms_id, seq, contact_number, contact_name, fields, sms_cost)
    SELECT $2, row_number() OVER (ORDER BY seq) - 1, contact_number, contact_name, fields, sms_cost
    FROM bulksms_info
    WHERE bulksms_id = $1 AND sms_status = 'failed'
"""

_CAMPAIGN = f"""
    INSERT INTO bulksms (id, name, workspace_id, message, encoding, segments, row_count, contact_count, rejected_count,
                         duplicate_count, total_cost, queued_count, retry_of)
    SELECT $2, first.name, workspace_id, message, encoding, segments, contacts, contacts, 0, 0, cost, contacts, first.id
    FROM bulksms AS first,
         (SELECT count(*) AS contacts, sum(sms_cost) AS cost FROM bulksms_info WHERE bulksms_id = $2) AS failed
    WHERE first.id = $1
    RETURNING {FIELDS}
"""


async def create(connection: Connection, first: Campaign) -> Campaign:
    """A new campaign, to be run, of the failed contacts of one that has ended, at what each of them cost then.

    Raises WrongStateError, NothingFailedError.
    """
    if first.completed_at is None:
        raise WrongStateError(first.status)
    new_id = await connection.fetchval("SELECT uuidv7()")
    if await connection.execute(_CONTACTS, first.id, new_id) == "INSERT 0 0":
        raise NothingFailedError("none of its contacts has failed")
    return from_row((await connection.fetch(_CAMPAIGN, first.id, new_id))[0])


def idempotency_key(first: Campaign, key: str) -> Key:
    """A client's key for a retry of the campaign."""
    return Key(first.workspace_id, "retry", key, first.id.bytes)
