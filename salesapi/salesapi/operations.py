"""What salesapi does, one entry for each operation: its OpenAPI document is made of these."""

from common.web.openapi import HEALTH, Operation, Text, document
from salesapi.salesapi.callback import Reports
from salesapi.salesapi.controls import Named, Run
from salesapi.salesapi.schemas import (
    CampaignPage,
    CampaignsQuery,
    CampaignView,
    CommittedView,
    ContactPage,
    ContactsQuery,
    CreatedView,
    NoContacts,
    Page,
    RejectedPage,
    TimelineView,
    TooLittleCredit,
    UploadForm,
    WrongState,
)

_ONCE = {
    "Idempotency-Key": {
        "type": "string",
        "pattern": "^[ -~]{1,200}$",
        "description": "a request that is sent again under its key gets the answer that it got first",
    }
}

_SIGNED = {
    "X-Signature": {
        "type": "string",
        "pattern": "^t=[0-9]+,v1=[0-9a-f]{64}$",
        "description": "where CALLBACK_SECRETS is set: the time in unix seconds, HMAC-SHA256 of it, a dot and the body",
    }
}

OPERATIONS = (
    Operation(
        "POST",
        "/create",
        "Make a campaign of a CSV of contacts and a text",
        {201: CreatedView, 422: NoContacts},
        problems=(404, 413, 415),
        body=UploadForm,
        media_type="multipart/form-data",
        headers=_ONCE,
    ),
    Operation(
        "POST",
        "/run",
        "Start a campaign, or say when it starts; once, however often it is asked",
        {202: CampaignView, 402: TooLittleCredit, 409: WrongState},
        problems=(404, 413, 415, 422),
        body=Run,
        headers=_ONCE,
    ),
    Operation(
        "POST",
        "/pause",
        "Take nothing more of a campaign to the carrier",
        {200: CampaignView, 409: WrongState},
        problems=(404, 413, 415),
        body=Named,
    ),
    Operation(
        "POST",
        "/resume",
        "Go on with a paused campaign",
        {200: CampaignView, 402: TooLittleCredit, 409: WrongState},
        problems=(404, 413, 415),
        body=Named,
    ),
    Operation(
        "POST",
        "/cancel",
        "End a campaign; what has not gone to the carrier never will",
        {200: CampaignView, 409: WrongState},
        problems=(404, 413, 415),
        body=Named,
    ),
    Operation(
        "POST",
        "/bulksms/{bulksms_id}/retry-failed",
        "A new campaign of the contacts that one has failed to reach",
        {201: CampaignView, 409: WrongState},
        problems=(404, 422),
        headers=_ONCE,
    ),
    Operation(
        "POST",
        "/callback",
        "Delivery reports of the carrier; answered when they are committed",
        {200: CommittedView},
        problems=(401, 413, 415),
        body=Reports,
        headers=_SIGNED,
        is_open=True,
    ),
    Operation("GET", "/bulksms", "Campaigns, newest first", {200: CampaignPage}, query=CampaignsQuery),
    Operation("GET", "/bulksms/{bulksms_id}", "A campaign", {200: CampaignView}, problems=(404,)),
    Operation(
        "GET",
        "/bulksms/{bulksms_id}/contacts",
        "The contacts of a campaign",
        {200: ContactPage},
        problems=(404,),
        query=ContactsQuery,
    ),
    Operation(
        "GET",
        "/bulksms/{bulksms_id}/rejected",
        "Rows of the upload that were not taken, and why",
        {200: RejectedPage},
        problems=(404,),
        query=Page,
    ),
    Operation(
        "GET",
        "/bulksms/{bulksms_id}/results.csv",
        "Every contact and what became of its message",
        {200: Text("text/csv")},
        problems=(404,),
    ),
    Operation(
        "GET", "/bulksms/{bulksms_id}/timeline", "How a campaign went, for a plot", {200: TimelineView}, problems=(404,)
    ),
    *HEALTH,
)

DOCUMENT = document(
    "salesapi", "Campaigns: make one of a CSV, run it, see what becomes of it. Errors are RFC 9457.", OPERATIONS
)
