"""What salesapi takes in its queries and shows in its answers: the types that are read, written and documented."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from bulksms.message import Encoding
from bulksms.status import CampaignStatus, SmsStatus
from common.web.problems import ProblemDetails

NAME_LENGTH = 200

Credits = Annotated[Decimal, Meta(description="credits, a decimal string")]
Moment = Annotated[datetime, Meta(tz=True)]
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
    created_at: Moment
    scheduled_for: Moment | None
    started_at: Moment | None
    completed_at: Moment | None


class MomentView(msgspec.Struct):
    """Messages that had, by then, the status that they have now."""

    at: Moment
    sent: int
    failed: int
    delivered: int
    undelivered: int


class TimelineView(msgspec.Struct):
    """How a campaign went, and of how many contacts."""

    contacts: int
    moments: list[MomentView]


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
    modified_at: Moment


class ContactPage(msgspec.Struct):
    """Contacts in the order of the file."""

    contacts: list[ContactView]
    next_cursor: NextCursor


class RejectedView(msgspec.Struct):
    """A row of the file that was not taken."""

    line: Annotated[int, Meta(description="on which it starts; the header is line 1")]
    value: str
    reason: str


class RejectedPage(msgspec.Struct):
    """Rows that were not taken, in the order of the file."""

    rejected: list[RejectedView]
    next_cursor: NextCursor


class CreatedView(msgspec.Struct):
    """A new campaign: what was taken of the file, and what it will cost."""

    bulksms_id: UUID
    name: str
    status: CampaignStatus
    scheduled_for: Moment | None
    rows: Annotated[int, Meta(description="accepted + rejected + duplicate")]
    accepted: int
    rejected: int
    duplicate: int
    rejected_rows: Annotated[list[RejectedView], Meta(description="the first that were not taken, duplicates too")]
    encoding: Encoding
    segments: Annotated[int, Meta(description="of the longest of its messages")]
    total_segments: int
    total_cost: Credits


class CommittedView(msgspec.Struct):
    """What became of the reports: each moved its message, was no news, or names no message of ours."""

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

    rejected_rows: list[RejectedView] = msgspec.field(default_factory=list)


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
    scheduled_for: Annotated[Moment, Meta(description="when it runs by itself")] | None = None
