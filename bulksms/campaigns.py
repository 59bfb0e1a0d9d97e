"""Read campaigns that are not deleted: counters, contacts, rejected rows and results."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from asyncpg import Record

from bulksms.status import CampaignStatus, SmsStatus
from common.database import Connection, Database


class Campaign(NamedTuple):
    """A campaign with its counters; costs in credits, times in UTC."""

    id: UUID
    name: str
    workspace_id: UUID
    status: CampaignStatus
    message: str
    encoding: str
    segments: int
    row_count: int
    contact_count: int
    rejected_count: int
    duplicate_count: int
    total_cost: Decimal
    charged: Decimal
    queued_count: int
    sent_count: int
    failed_count: int
    delivered_count: int
    undelivered_count: int
    created_at: datetime
    run_requested_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    scheduled_for: datetime | None
    pause_reason: str | None
    retry_of: UUID | None
    unsent_count: int
    purged_at: datetime | None

    @property
    def statuses(self) -> dict[SmsStatus, int]:
        """Contacts by status; the counts add up to `contact_count`."""
        return {
            SmsStatus.QUEUED: self.queued_count,
            SmsStatus.SENT: self.sent_count,
            SmsStatus.FAILED: self.failed_count,
            SmsStatus.DELIVERED: self.delivered_count,
            SmsStatus.UNDELIVERED: self.undelivered_count,
        }


def progress(campaign: Campaign) -> dict[str, Any]:
    """The progress of a campaign for other services: plain strings and numbers, empty for a time not reached."""
    return {
        "bulksms_id": str(campaign.id),
        "workspace_id": str(campaign.workspace_id),
        "name": campaign.name,
        "status": str(campaign.status),
        "contacts": campaign.contact_count,
        **{str(status): count for status, count in campaign.statuses.items()},
        "total_cost": str(campaign.total_cost),
        "charged": str(campaign.charged),
        "created_at": _time(campaign.created_at),
        "started_at": _time(campaign.started_at),
        "completed_at": _time(campaign.completed_at),
        "scheduled_for": _time(campaign.scheduled_for),
        "pause_reason": campaign.pause_reason or "",
        "unsent": campaign.unsent_count,
    }


def _time(moment: datetime | None) -> str:
    return moment.isoformat() if moment else ""


class ContactResult(NamedTuple):
    """A contact of a campaign and the status of its message; cost in credits."""

    seq: int
    contact_number: str
    contact_name: str
    sms_status: SmsStatus
    sms_cost: Decimal
    error_code: str | None
    modified_at: datetime


class ContactsPage(NamedTuple):
    """Contacts, and the last seq that was looked at; None if there are no more."""

    contacts: list[ContactResult]
    last: int | None


class RejectedRow(NamedTuple):
    """A row of the upload that was not accepted."""

    line: int
    value: str
    reason: str


class CampaignNotFoundError(Exception):
    """No campaign has this id."""


FIELDS = ", ".join(Campaign._fields)
_CONTACT_FIELDS = ", ".join(ContactResult._fields)

_MOST_SCANNED = 20_000  # rows of a campaign, to find those of one status

_GET = f"SELECT {FIELDS} FROM bulksms WHERE id = $1 AND deleted_at IS NULL"

_GET_MANY = f"SELECT {FIELDS} FROM bulksms WHERE id = ANY($1) AND deleted_at IS NULL"

# Newest first: ids are UUIDv7, which grow with time.
_LIST = f"""
    SELECT {FIELDS} FROM bulksms
    WHERE deleted_at IS NULL AND ($1::uuid IS NULL OR workspace_id = $1) AND ($2::uuid IS NULL OR id < $2)
    ORDER BY id DESC
    LIMIT $3
"""

_CONTACTS = f"""
    SELECT {_CONTACT_FIELDS} FROM bulksms_info
    WHERE bulksms_id = $1 AND seq > $2 AND seq <= $5 AND ($3::text IS NULL OR sms_status = $3::text::sms_status)
    ORDER BY seq
    LIMIT $4
"""

_REJECTED = (
    "SELECT line, value, reason FROM bulksms_rejected WHERE bulksms_id = $1 AND line > $2 ORDER BY line LIMIT $3"
)


async def get(database: Database, bulksms_id: UUID) -> Campaign:
    """The campaign with its counters. Raises CampaignNotFoundError."""
    async with database.connection() as connection:
        return await read(connection, bulksms_id)


async def read(connection: Connection, bulksms_id: UUID) -> Campaign:
    """The campaign, read in an open transaction. Raises CampaignNotFoundError."""
    row = await connection.fetchrow(_GET, bulksms_id)
    if row is None:
        raise CampaignNotFoundError(f"there is no campaign {bulksms_id}")
    return from_row(row)


async def find(database: Database, value: str) -> Campaign:
    """The campaign of an id in text form, such as in a URL. Raises CampaignNotFoundError."""
    try:
        return await get(database, UUID(value))
    except ValueError:
        raise CampaignNotFoundError(f"{value!r} is not a valid campaign id: it must be a UUID") from None


async def get_many(database: Database, bulksms_ids: Sequence[UUID]) -> list[Campaign]:
    """The campaigns with these ids; ids without a campaign are skipped."""
    async with database.connection() as connection:
        return [from_row(row) for row in await connection.fetch(_GET_MANY, bulksms_ids)]


async def page(database: Database, workspace_id: UUID | None, before: UUID | None, limit: int) -> list[Campaign]:
    """Campaigns older than `before`, newest first; all workspaces if `workspace_id` is None."""
    async with database.connection() as connection:
        return [from_row(row) for row in await connection.fetch(_LIST, workspace_id, before, limit)]


async def contacts(
    database: Database, campaign: Campaign, *, status: SmsStatus | None, after: int, limit: int
) -> ContactsPage:
    """Contacts in the order of the file, starting after seq `after` (-1 for the first).

    A page may have fewer than `limit`, or none, before the last one: a query looks at _MOST_SCANNED rows at most.
    """
    if status is not None and not campaign.statuses[status]:
        return ContactsPage([], None)
    last = after + _MOST_SCANNED
    async with database.connection() as connection:
        rows = await connection.fetch(_CONTACTS, campaign.id, after, status, limit, last)
    found = [ContactResult(*row) for row in rows]
    if len(found) == limit:
        last = found[-1].seq
    return ContactsPage(found, last if last < campaign.contact_count - 1 else None)


async def rejected(database: Database, bulksms_id: UUID, *, after: int, limit: int) -> list[RejectedRow]:
    """Rejected rows of the upload, starting after line `after`."""
    async with database.connection() as connection:
        return [RejectedRow(*row) for row in await connection.fetch(_REJECTED, bulksms_id, after, limit)]


async def results(database: Database, campaign: Campaign, rows: int = 1_000) -> AsyncIterator[Sequence[ContactResult]]:
    """All contacts in chunks of up to `rows`, each a keyset page, so that no transaction stays open."""
    after: int | None = -1
    while after is not None:
        page = await contacts(database, campaign, status=None, after=after, limit=rows)
        yield page.contacts
        after = page.last


def from_row(row: Record) -> Campaign:
    """The campaign of a row of FIELDS."""
    campaign = Campaign(*row)
    return campaign._replace(status=CampaignStatus(campaign.status))
