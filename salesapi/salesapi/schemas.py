"""The types of salesapi's requests and responses, as they are read, written and documented."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import Meta

from bulksms.campaigns import Campaign
from bulksms.message import Encoding
from bulksms.quotas import QuotaExceededError
from bulksms.status import CampaignStatus, SmsStatus
from common.web.problems import Problem, ProblemDetails

NAME_LENGTH = 200

Credits = Annotated[Decimal, Meta(description="credits, a decimal string")]
Timestamp = Annotated[datetime, Meta(tz=True)]
NextCursor = Annotated[str, Meta(description="the `cursor` of the next page")] | None


class Page(msgspec.Struct):
    """Pagination of a list."""

    cursor: Annotated[str, Meta(description="`next_cursor` of the previous page")] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class CampaignsQuery(Page):
    """The query of the list of campaigns."""

    workspace_id: UUID | None = None


class ContactsQuery(Page):
    """The query of the contacts of a campaign."""

    status: SmsStatus | None = None


class CampaignView(msgspec.Struct):
    """A campaign: its upload, the status of its contacts, its cost."""

    bulksms_id: UUID
    name: str
    workspace_id: UUID
    status: CampaignStatus
    pause_reason: Annotated[str, Meta(description="why it was paused automatically")] | None
    message: str
    encoding: Encoding
    segments: Annotated[int, Meta(description="segments of the longest message")]
    rows: Annotated[int, Meta(description="accepted + rejected + duplicate")]
    accepted: int
    rejected: int
    duplicate: int
    contacts: Annotated[dict[SmsStatus, int], Meta(description="contacts by status; the counts add up to `accepted`")]
    unsent: Annotated[int, Meta(description="contacts of a cancelled campaign that will not be sent")]
    total_cost: Credits
    charged: Credits
    retry_of: UUID | None
    created_at: Timestamp
    scheduled_for: Timestamp | None
    started_at: Timestamp | None
    completed_at: Timestamp | None
    purged_at: Annotated[Timestamp, Meta(description="when its text and contacts were deleted")] | None

    @classmethod
    def of(cls, campaign: Campaign) -> Self:
        """The campaign as the API shows it; costs in credits as decimal strings, times in UTC."""
        return cls(
            bulksms_id=campaign.id,
            name=campaign.name,
            workspace_id=campaign.workspace_id,
            status=campaign.status,
            pause_reason=campaign.pause_reason,
            message=campaign.message,
            encoding=Encoding(campaign.encoding),
            segments=campaign.segments,
            rows=campaign.row_count,
            accepted=campaign.contact_count,
            rejected=campaign.rejected_count,
            duplicate=campaign.duplicate_count,
            contacts=campaign.statuses,
            unsent=campaign.unsent_count,
            total_cost=campaign.total_cost,
            charged=campaign.charged,
            retry_of=campaign.retry_of,
            created_at=campaign.created_at,
            scheduled_for=campaign.scheduled_for,
            started_at=campaign.started_at,
            completed_at=campaign.completed_at,
            purged_at=campaign.purged_at,
        )


class TimelinePointView(msgspec.Struct):
    """Messages that had reached their current status by the time `at`."""

    at: Timestamp
    sent: int
    failed: int
    delivered: int
    undelivered: int


class TimelineView(msgspec.Struct):
    """The messages of a campaign by status over time, and its number of contacts."""

    contacts: int
    moments: list[TimelinePointView]


class CampaignPage(msgspec.Struct):
    """Campaigns, newest first."""

    bulksms: list[CampaignView]
    next_cursor: NextCursor


class ContactView(msgspec.Struct):
    """A contact and the status of its message."""

    seq: int
    contact_number: Annotated[str, Meta(pattern=r"^(\+[0-9]+)?$", description="E.164; empty: erased")]
    contact_name: str
    sms_status: SmsStatus
    sms_cost: Credits
    error_code: str | None
    modified_at: Timestamp


class ContactPage(msgspec.Struct):
    """Contacts in the order of the file."""

    contacts: list[ContactView]
    next_cursor: NextCursor


class RejectedRowView(msgspec.Struct):
    """A row of the file that was not accepted."""

    line: Annotated[int, Meta(description="the line on which it starts; the header is line 1")]
    value: str
    reason: str


class RejectedPage(msgspec.Struct):
    """Rejected rows in the order of the file."""

    rejected: list[RejectedRowView]
    next_cursor: NextCursor


class CreatedView(msgspec.Struct):
    """A new campaign: the accepted and rejected rows of the file, and its cost."""

    bulksms_id: UUID
    name: str
    status: CampaignStatus
    scheduled_for: Timestamp | None
    rows: Annotated[int, Meta(description="accepted + rejected + duplicate")]
    accepted: int
    rejected: int
    duplicate: int
    rejected_rows: Annotated[list[RejectedRowView], Meta(description="the first rejected rows, duplicates included")]
    encoding: Encoding
    segments: Annotated[int, Meta(description="segments of the longest message")]
    total_segments: int
    total_cost: Credits


class CommittedView(msgspec.Struct):
    """How many reports changed a message's status, were stale, or name an unknown message."""

    applied: int
    stale: int
    unknown: int


class TooLittleCredit(ProblemDetails):
    """The credits that are needed, and those that are available."""

    needed: str
    available: str


class WrongState(ProblemDetails):
    """The campaign's status, which does not allow the operation."""

    status_now: CampaignStatus | None = None


class QuotaExceeded(ProblemDetails):
    """What the workspace has too much of, the limit, what it has, and what the request needs."""

    quota: str
    limit: int
    used: int
    needed: int


class NotRetried(ProblemDetails):
    """The campaign's status if it has not ended; the id of a retry that has not; or the numbers of a quota."""

    status_now: CampaignStatus | None = None
    retry: UUID | None = None
    quota: str | None = None
    limit: int | None = None
    used: int | None = None
    needed: int | None = None


class NoContacts(ProblemDetails):
    """The first rejected rows of a file without a valid row."""

    rejected_rows: list[RejectedRowView] = msgspec.field(default_factory=list)


class CampaignReference(msgspec.Struct):
    """The body of `POST /pause`, `/resume` and `/cancel`."""

    bulksms_id: UUID


class RunRequest(msgspec.Struct):
    """The body of `POST /run`; `scheduled_for` in ISO 8601 with a time zone."""

    bulksms_id: UUID
    scheduled_for: Timestamp | None = None


class UploadForm(msgspec.Struct):
    """The fields of an upload."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]
    message: Annotated[str, Meta(description="up to 10 segments; `{Column Name}` is replaced by the contact's value")]
    workspace_id: UUID
    file: Annotated[
        str,
        Meta(
            description="CSV with the columns Contact Name and Phone Number",
            extra_json_schema={"format": "binary", "contentMediaType": "text/csv"},
        ),
    ]
    scheduled_for: Annotated[Timestamp, Meta(description="when to start it automatically")] | None = None


def quota_exceeded(error: QuotaExceededError) -> Problem:
    """409: the workspace has too much of what the quota bounds; the response has the numbers."""
    return Problem(
        409, "Quota exceeded", str(error), quota=error.quota, limit=error.limit, used=error.used, needed=error.needed
    )
