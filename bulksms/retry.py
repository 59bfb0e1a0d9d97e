"""Makes a new campaign of the contacts that a campaign failed to reach."""

from collections.abc import Callable
from uuid import UUID

from bulksms import idempotency
from bulksms.campaigns import FIELDS, Campaign, from_row, get
from bulksms.idempotency import Key, KeyTakenError
from bulksms.lifecycle import WrongStateError
from common.database import Database


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


async def retry_failed(
    database: Database, bulksms_id: UUID, key: str | None, answer: Callable[[Campaign], bytes]
) -> bytes:
    """A new campaign, to be run, of the failed contacts of one that has ended, at what each of them cost then.

    Returns the answer to it, which is kept for the idempotency key.
    Raises CampaignNotFoundError, WrongStateError, NothingFailedError, KeyTakenError.
    """
    first = await get(database, bulksms_id)
    if first.completed_at is None:
        raise WrongStateError(first.status)
    async with database.transaction() as connection:
        new_id = await connection.fetchval("SELECT uuidv7()")
        if await connection.execute(_CONTACTS, bulksms_id, new_id) == "INSERT 0 0":
            raise NothingFailedError("none of its contacts has failed")
        made = from_row((await connection.fetch(_CAMPAIGN, bulksms_id, new_id))[0])
        body = answer(made)
        if key is not None and not await idempotency.remember(connection, retry_key(first, key), body):
            raise KeyTakenError
    return body


def retry_key(first: Campaign, key: str) -> Key:
    """A client's key for a retry of the campaign."""
    return Key(first.workspace_id, "retry", key, first.id.bytes)
