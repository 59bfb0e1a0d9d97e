"""Endpoints that read campaigns: counters, contacts, rejected rows, the timeline, and the results as CSV."""

import base64
import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, TypeVar
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bulksms import campaigns, timeline
from bulksms.campaigns import Campaign, CampaignNotFoundError, ContactResult
from bulksms.contacts.csv_escape import escape_formula
from common.auth.middleware import caller
from common.database import Database
from common.web.problems import Problem
from common.web.requests import json_response, read_query
from salesapi.salesapi.authorization import visible_campaign
from salesapi.salesapi.schemas import (
    CampaignPage,
    CampaignsQuery,
    CampaignView,
    ContactPage,
    ContactsQuery,
    ContactView,
    Page,
    RejectedPage,
    RejectedRowView,
    TimelinePointView,
    TimelineView,
)

T = TypeVar("T")

FilePosition = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class CampaignEndpoints:
    """The handlers, with what they need."""

    def __init__(self, salesdb: Database) -> None:
        self._salesdb = salesdb

    async def list(self, request: Request) -> Response:
        """`GET /bulksms?workspace_id=&cursor=&limit=`: campaigns, newest first."""
        asked = read_query(request, CampaignsQuery)
        workspace_id = _workspace(request, asked)
        found = await campaigns.page(self._salesdb, workspace_id, _position(asked, UUID), asked.limit)
        return json_response(
            CampaignPage([CampaignView.of(campaign) for campaign in found], _next(asked, [one.id for one in found]))
        )

    async def get(self, request: Request) -> Response:
        """`GET /bulksms/{id}`: counters, cost and timing."""
        return json_response(CampaignView.of(await self._campaign(request)))

    async def contacts(self, request: Request) -> Response:
        """`GET /bulksms/{id}/contacts?status=&cursor=&limit=`: contacts in the order of the file."""
        campaign = await self._campaign(request)
        asked = read_query(request, ContactsQuery)
        after = _position(asked, FilePosition)
        found = await campaigns.contacts(
            self._salesdb,
            campaign.id,
            status=asked.status,
            after=-1 if after is None else after,
            limit=asked.limit,
        )
        return json_response(
            ContactPage([ContactView(*one) for one in found], _next(asked, [one.seq for one in found]))
        )

    async def rejected(self, request: Request) -> Response:
        """`GET /bulksms/{id}/rejected?cursor=&limit=`: rows of the file that were not taken, and why."""
        campaign = await self._campaign(request)
        asked = read_query(request, Page)
        found = await campaigns.rejected(
            self._salesdb, campaign.id, after=_position(asked, FilePosition) or 0, limit=asked.limit
        )
        return json_response(
            RejectedPage([RejectedRowView(*row) for row in found], _next(asked, [row.line for row in found]))
        )

    async def results(self, request: Request) -> Response:
        """`GET /bulksms/{id}/results.csv`: every contact with what became of it, streamed."""
        campaign = await self._campaign(request)
        return StreamingResponse(
            _csv_lines(campaigns.results(self._salesdb, campaign.id)),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{campaign.id}.csv"'},
        )

    async def timeline(self, request: Request) -> Response:
        """`GET /bulksms/{id}/timeline`: how a campaign went, for a plot."""
        campaign = await self._campaign(request)
        points = await timeline.read(self._salesdb, campaign, datetime.now(UTC))
        return json_response(TimelineView(campaign.contact_count, [TimelinePointView(*one) for one in points]))

    async def _campaign(self, request: Request) -> Campaign:
        try:
            return await visible_campaign(self._salesdb, request, request.path_params["bulksms_id"])
        except CampaignNotFoundError as error:
            raise Problem(404, "No such campaign", str(error)) from None


def _workspace(request: Request, asked: CampaignsQuery) -> UUID | None:
    """Whose campaigns are asked for; None for all of them. Raises Problem 404 if the caller may not know of it."""
    workspace_id = asked.workspace_id or caller(request).workspace_id
    if workspace_id and not caller(request).sees(workspace_id):
        raise Problem(404, "No such workspace", f"there is no workspace {workspace_id}")
    return workspace_id


def _next(asked: Page, positions: Sequence[object]) -> str | None:
    """The cursor of the page after the one that ends at the last of these positions, if it was full."""
    if len(positions) < asked.limit:
        return None
    return base64.urlsafe_b64encode(str(positions[-1]).encode()).decode().rstrip("=")


def _position(asked: Page, kind: type[T]) -> T | None:
    """The position that a cursor of ours stands for. Raises Problem 400."""
    value = asked.cursor
    if value is None:
        return None
    try:
        position = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
        return msgspec.convert(position, kind, strict=False)
    except (ValueError, msgspec.ValidationError):
        raise Problem(400, "Query not understood", f"cursor={value!r} is none of ours: use next_cursor") from None


async def _csv_lines(chunks: AsyncIterator[Iterable[ContactResult]]) -> AsyncIterator[str]:
    """The lines of a CSV that spreadsheets open safely and `POST /create` can read; every cell in double quotes.

    The name and the error, which come from outside, are escaped, see `escape_formula`. The number is not: it is E.164
    (a plus and digits), so at worst a spreadsheet drops the plus, and a quote before it would break other programs.
    """
    yield ",".join(f'"{name}"' for name in ContactResult._fields) + "\r\n"
    async for chunk in chunks:
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
            contact._replace(
                contact_name=escape_formula(contact.contact_name), error_code=escape_formula(contact.error_code or "")
            )
            for contact in chunk
        )
        yield text.getvalue()
