"""What salesapi does, one entry for each operation: its routes and its OpenAPI document are made of these."""

from collections.abc import Sequence

from starlette.routing import BaseRoute

from common.web import openapi
from common.web.operations import Operation, Text, routes
from salesapi.salesapi.callback import Callback, Reports
from salesapi.salesapi.endpoints.campaigns import CampaignEndpoints
from salesapi.salesapi.endpoints.create import CreateEndpoint
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
    Page,
    RejectedPage,
    RunRequest,
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

DESCRIPTION = "Campaigns: make one of a CSV, run it, see what becomes of it. Errors are RFC 9457."


def operations(
    create: CreateEndpoint,
    lifecycle: LifecycleEndpoints,
    campaigns: CampaignEndpoints,
    callback: Callback,
    shared: Sequence[Operation],
) -> tuple[Operation, ...]:
    """All that salesapi does; `shared`: what every process does."""
    return (
        Operation(
            "POST",
            "/create",
            create.endpoint,
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
            lifecycle.run,
            "Start a campaign, or say when it starts; once, however often it is asked",
            {202: CampaignView, 402: TooLittleCredit, 409: WrongState},
            problems=(404, 413, 415, 422),
            body=RunRequest,
            headers=_ONCE,
        ),
        Operation(
            "POST",
            "/pause",
            lifecycle.pause,
            "Take nothing more of a campaign to the carrier",
            {200: CampaignView, 409: WrongState},
            problems=(404, 413, 415),
            body=CampaignReference,
        ),
        Operation(
            "POST",
            "/resume",
            lifecycle.resume,
            "Go on with a paused campaign",
            {200: CampaignView, 402: TooLittleCredit, 409: WrongState},
            problems=(404, 413, 415),
            body=CampaignReference,
        ),
        Operation(
            "POST",
            "/cancel",
            lifecycle.cancel,
            "End a campaign; what has not gone to the carrier never will",
            {200: CampaignView, 409: WrongState},
            problems=(404, 413, 415),
            body=CampaignReference,
        ),
        Operation(
            "POST",
            "/bulksms/{bulksms_id}/retry-failed",
            lifecycle.retry_failed,
            "A new campaign of the contacts that one has failed to reach",
            {201: CampaignView, 409: WrongState},
            problems=(404, 422),
            headers=_ONCE,
        ),
        Operation(
            "POST",
            "/callback",
            callback.endpoint,
            "Delivery reports of the carrier; answered when they are committed",
            {200: CommittedView},
            problems=(401, 413, 415),
            body=Reports,
            headers=_SIGNED,
            is_open=True,
        ),
        Operation(
            "GET", "/bulksms", campaigns.list, "Campaigns, newest first", {200: CampaignPage}, query=CampaignsQuery
        ),
        Operation("GET", "/bulksms/{bulksms_id}", campaigns.get, "A campaign", {200: CampaignView}, problems=(404,)),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/contacts",
            campaigns.contacts,
            "The contacts of a campaign",
            {200: ContactPage},
            problems=(404,),
            query=ContactsQuery,
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/rejected",
            campaigns.rejected,
            "Rows of the upload that were not taken, and why",
            {200: RejectedPage},
            problems=(404,),
            query=Page,
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/results.csv",
            campaigns.results,
            "Every contact and what became of its message",
            {200: Text("text/csv")},
            problems=(404,),
        ),
        Operation(
            "GET",
            "/bulksms/{bulksms_id}/timeline",
            campaigns.timeline,
            "How a campaign went, for a plot",
            {200: TimelineView},
            problems=(404,),
        ),
        *shared,
    )


def all_routes(operations: Sequence[Operation]) -> list[BaseRoute]:
    """The routes of the operations and of their document."""
    return [*routes(operations), *openapi.routes(openapi.document("salesapi", DESCRIPTION, operations))]
