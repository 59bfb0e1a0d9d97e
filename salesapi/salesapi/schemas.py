"""What salesapi takes in its queries and shows in its answers: the types that are read, written and documented."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Self
from uuid import UUID

import msgspec
from msgspec import Meta

from bulksms.campaigns import Campaign
from bulksms.message import Encoding
from bulksms.status import CampaignStatus, SmsStatus
from common.web.problems import ProblemDetails

NAME_LENGTH = 200

Credits = Annotated[Decimal, Meta(description="credits, a decimal string")]
Timestamp = Annotated[datetime, Meta(tz=True)]
NextCursor = Annotated[str, Meta(description="the `cursor` of the next page")] | None


class Page(msgspec.Struct):
    """Which part of a list."""

    cursor: Annotated[str, Meta(description="`next_cursor` of the page before")] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class CampaignsQuery(Page):
    """Which campaigns."""

    workspace_id: UUID | None = None


class ContactsQuery(Page):
    """Which contacts of a campaign."""

    status: SmsStatus | None = None


class CampaignView(msgspec.Struct):
    """A campaign: what was uploaded, what becomes of its contacts, what it costs."""

    bulksms_id: UUID
    name: str
    workspace_id: UUID
    status: CampaignStatus
    pause_reason: Annotated[str, Meta(description="why it paused by itself")] | None
    message: str
    encoding: Encoding
    segments: Annotated[int, Meta(description="of the longest of its messages")]
    rows: Annotated[int, Meta(description="accepted + rejected + duplicate")]
    accepted: int
    rejected: int
    duplicate: int
    contacts: Annotated[dict[SmsStatus, int], Meta(description="contacts in each status; they add up to `accepted`")]
    unsent: Annotated[int, Meta(description="contacts of a cancelled campaign that will never be sent")]
    total_cost: Credits
    charged: Credits
    retry_of: UUID | None
    created_at: Timestamp
    scheduled_for: Timestamp | None
    started_at: Timestamp | None
    completed_at: Timestamp | None

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
        )


class TimelinePointView(msgspec.Struct):
    """Messages that had, by then, the status that they have now."""

    at: Timestamp
    sent: int
    failed: int
    delivered: int
    undelivered: int


class TimelineView(msgspec.Struct):
    """How a campaign went, and of how many contacts."""

    contacts: int
    moments: list[TimelinePointView]


class CampaignPage(msgspec.Struct):
    """Campaigns, newest first."""

    bulksms: list[CampaignView]
    next_cursor: NextCursor


class ContactView(msgspec.Struct):
    """A contact, and what became of its message."""

    seq: int
    contact_number: Annotated[str, Meta(pattern=r"^\+[0-9]+$", description="E.164")]
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
    """A row of the file that was not taken."""

    line: Annotated[int, Meta(description="on which it starts; the header is line 1")]
    value: str
    reason: str


class RejectedPage(msgspec.Struct):
    """Rows that were not taken, in the order of the file."""

    rejected: list[RejectedRowView]
    next_cursor: NextCursor


class CreatedView(msgspec.Struct):
    """A new campaign: what was taken of the file, and what it will cost."""

    bulksms_id: UUID
    name: str
    status: CampaignStatus
    scheduled_for: Timestamp | None
    rows: Annotated[int, Meta(description="accepted + rejected + duplicate")]
    accepted: int
    rejected: int
    duplicate: int
    rejected_rows: Annotated[list[RejectedRowView], Meta(description="the first that were not taken, duplicates too")]
    encoding: Encoding
    segments: Annotated[int, Meta(description="of the longest of its messages")]
    total_segments: int
    total_cost: Credits


class CommittedView(msgspec.Struct):
    """How many of the reports changed a message's status, were stale, or name no message of ours."""

    applied: int
    stale: int
    unknown: int


class TooLittleCredit(ProblemDetails):
    """What the campaign needs, and what there is, in credits."""

    needed: str
    available: str


class WrongState(ProblemDetails):
    """The campaign's status, in which this cannot be done with it."""

    status_now: CampaignStatus | None = None


class NoContacts(ProblemDetails):
    """Where no row could be taken, the first of them."""

    rejected_rows: list[RejectedRowView] = msgspec.field(default_factory=list)


class CampaignReference(msgspec.Struct):
    """The body of `POST /pause`, `/resume` and `/cancel`."""

    bulksms_id: UUID


class RunRequest(msgspec.Struct):
    """The body of `POST /run`; `scheduled_for` in ISO 8601 with its zone."""

    bulksms_id: UUID
    scheduled_for: Timestamp | None = None


class UploadForm(msgspec.Struct):
    """The fields of an upload."""

    name: Annotated[str, Meta(min_length=1, max_length=NAME_LENGTH)]
    message: Annotated[str, Meta(description="up to 10 segments; `{Column Name}` stands for a contact's own value")]
    workspace_id: UUID
    file: Annotated[
        str,
        Meta(
            description="CSV with the columns Contact Name and Phone Number",
            extra_json_schema={"format": "binary", "contentMediaType": "text/csv"},
        ),
    ]
    scheduled_for: Annotated[Timestamp, Meta(description="when it runs by itself")] | None = None
