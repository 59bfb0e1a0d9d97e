"""Quotas of a workspace: campaigns that have not started, and contacts that are stored.

They bound what a customer can store without paying for it. A transaction that adds a campaign takes the workspace's
lock before it counts, so that concurrent ones cannot pass together.
"""

from typing import NamedTuple
from uuid import UUID

from common.database import Connection


class Quotas(NamedTuple):
    """The most a workspace may have: drafts (campaigns not started), contacts of campaigns not ended, and of all."""

    drafts: int
    open_contacts: int
    contacts: int


class QuotaExceededError(Exception):
    """The workspace has too much: `used` of `limit`, of which `needed` more are asked for."""

    def __init__(self, quota: str, limit: int, used: int, needed: int, remedy: str) -> None:
        super().__init__(
            f"the workspace has {used:,} {quota} and needs {needed:,} more, the limit is {limit:,}; {remedy}"
        )
        self.quota = quota
        self.limit = limit
        self.used = used
        self.needed = needed


_WORDS = {
    "drafts": "drafts",
    "open_contacts": "contacts in campaigns that have not ended",
    "contacts": "stored contacts",
}

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1::text, 0))"

# The rows of a deleted campaign count until they are gone.
_USED = """
    SELECT count(*) FILTER (WHERE started_at IS NULL AND completed_at IS NULL AND deleted_at IS NULL) AS drafts,
           coalesce(sum(contact_count) FILTER (WHERE completed_at IS NULL), 0) AS open_contacts,
           coalesce(sum(contact_count), 0) AS contacts
    FROM bulksms
    WHERE workspace_id = $1 AND (purged_at IS NULL OR purge_pending)
"""


async def check(connection: Connection, workspace_id: UUID, quotas: Quotas, contacts: int = 1) -> None:
    """Check, without a lock, that a campaign of `contacts` may be added. Raises QuotaExceededError."""
    used = await connection.fetchrow(_USED, workspace_id)
    assert used is not None
    for quota, limit, needed, remedy in (
        ("drafts", quotas.drafts, 1, "run or delete some of its campaigns that have not started"),
        ("open_contacts", quotas.open_contacts, contacts, "run its campaigns to their end, or delete some"),
        ("contacts", quotas.contacts, contacts, "delete campaigns that have ended; their rows are gone within minutes"),
    ):
        if used[quota] + needed > limit:
            raise QuotaExceededError(quota, limit, used[quota], needed, remedy)


async def take(connection: Connection, workspace_id: UUID, quotas: Quotas, contacts: int) -> None:
    """Check in the transaction that adds the campaign, and let no other one add one until it ends.

    Call it late: others wait for it. Raises QuotaExceededError: roll the transaction back.
    """
    await connection.execute(_LOCK, f"quota of {workspace_id}")
    await check(connection, workspace_id, quotas, contacts)
