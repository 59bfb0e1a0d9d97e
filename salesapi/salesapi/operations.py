"""The operations of salesapi, from which its routes and its OpenAPI document are generated."""

from collections.abc import Sequence

from common.web.operations import Operation, Text
from salesapi.salesapi.callback import Callback, Reports
from salesapi.salesapi.endpoints.campaigns import CampaignEndpoints
from salesapi.salesapi.endpoints.create import CreateEndpoint
from salesapi.salesapi.endpoints.erase import EraseEndpoint, EraseRequest, ReceiptView
from salesapi.salesapi.endpoints.lifecycle import LifecycleEndpoints
from salesapi.salesapi.schemas import (
    CampaignPage,
    CampaignReference,
    CampaignsQuery,
    CampaignView,
    CommittedView,
    ContactPage,
    ContactsQuery,
    CreatedView,
    NoContacts,
    NotRetried,
    Page,
    QuotaExceeded,
    RejectedPage,
    RunRequest,
    TimelineView,
    TooLittleCredit,
    UploadForm,
    WrongState,
)

_IDEMPOTENCY_KEY = {
    "Idempotency-Key": {
        "type": "string",
        "pattern": "^[ -~]{1,200}$",
        "description": "a request that is repeated with its key gets the first response again",
    }
}

_SIGNATURE = {
    "X-Signature": {
        "type": "string",
        "pattern": "^t=[0-9]+,v1=[0-9a-f]{64}$",
        "description": "where CALLBACK_SECRETS is set: the time in unix seconds, HMAC-SHA256 of it, a dot and the body",
    }
}

DESCRIPTION = "Campaigns: create one from a CSV, run it, follow its progress. Errors are RFC 9457."


def operations(
    create: CreateEndpoint,
    lifecycle: LifecycleEndpoints,
    campaigns: CampaignEndpoints,
    callback: Callback,
    erase: EraseEndpoint,
    shared: Sequence[Operation],
) -> tuple[Operation, ...]:
    """The operations of salesapi; `shared`: those of every process."""
    return (
        Operation(
            "POST",
            "/create",
            create.endpoint,
            "Create a campaign from a CSV of contacts and a text",
            {201: CreatedView, 409: QuotaExceeded, 422: NoContacts},
            problems=(404, 413, 415),
            body=UploadForm,
            media_type="multipart/form-data",
            headers=_IDEMPOTENCY_KEY,
            action="campaign.create",
        ),
        Operation(
            "POST",
            "/run",
            lifecycle.run,
            "Start a campaign, or schedule it; repeating the request starts it once",
            {202: CampaignView, 402: TooLittleCredit, 409: WrongState},
            problems=(404, 413, 415, 422),
            body=RunRequest,
            headers=_IDEMPOTENCY_KEY,
            action="campaign.run",
        ),
        Operation(
            "POST",
            "/pause",
            lifecycle.pause,
            "Stop submitting a campaign to the carrier",
            {200: CampaignView, 409: WrongState},
            problems=(404, 413, 415),
            body=CampaignReference,
            action="campaign.pause",
        ),
        Operation(
            "POST",
            "/resume",
            lifecycle.resume,
            "Resume a paused campaign",
            {200: CampaignView, 402: TooLittleCredit, 409: WrongState},
            problems=(404, 413, 415),
            body=CampaignReference,
            action="campaign.resume",
        ),
        Operation(
            "POST",
            "/cancel",
            lifecycle.cancel,
            "Cancel a campaign; unsent messages stay unsent",
            {200: CampaignView, 409: WrongState},
            problems=(404, 413, 415),
            body=CampaignReference,
            action="campaign.cancel",
        ),
        Operation(
            "POST",
            "/bulksms/{bulksms_id}/retry-failed",
            lifecycle.retry_failed,
            "Create a new campaign from the failed contacts of one",
            {201: CampaignView, 409: NotRetried},
            problems=(404, 410, 422),
            headers=_IDEMPOTENCY_KEY,
            action="campaign.retry",
        ),
        Operation(
            "DELETE",
            "/bulksms/{bulksms_id}",
            lifecycle.delete,
            "Delete a campaign that was not run or has ended; its costs stay in the books",
            {204: None, 409: WrongState},
            problems=(404,),
            action="campaign.delete",
        ),
        Operation(
            "POST",
            "/callback",
            callback.endpoint,
            "Receive delivery reports of the carrier; answered when they are committed",
            {200: CommittedView},
            problems=(401, 413, 415),
            body=Reports,
            headers=_SIGNATURE,
            is_open=True,
        ),
        Operation(
            "POST",
            "/erase",
            erase.endpoint,
            "Take a phone number out of everything that is stored",
            {200: ReceiptView},
            problems=(404, 413, 415, 422),
            body=EraseRequest,
            action="person.erase",
        ),
        Operation(
            "GET", "/bulksms", campaigns.list, "List campaigns, newest first", {200: CampaignPage}, query=CampaignsQuery
        ),
        Operation(
            "GET", "/bulksms/{bulksms_id}", campaigns.get, "Get a campaign", {200: CampaignView}, problems=(404,)
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/contacts",
            campaigns.contacts,
            "List the contacts of a campaign",
            {200: ContactPage},
            problems=(404, 410),
            query=ContactsQuery,
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/rejected",
            campaigns.rejected,
            "List the rejected rows of the upload, with reasons",
            {200: RejectedPage},
            problems=(404, 410),
            query=Page,
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/results.csv",
            campaigns.results,
            "Every contact and the status of its message, as CSV",
            {200: Text("text/csv")},
            problems=(404, 410),
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/timeline",
            campaigns.timeline,
            "Messages by status over time, for a plot",
            {200: TimelineView},
            problems=(404, 410),
        ),
        *shared,
    )
