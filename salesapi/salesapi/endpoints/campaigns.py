"""Endpoints that read campaigns: counters, contacts, rejected rows, the timeline, and the results as CSV."""

import base64
import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from bulksms import campaigns, timeline
from bulksms.campaigns import Campaign, CampaignNotFoundError, ContactResult, ContactsPage
from bulksms.contacts.csv_escape import escape_formula
from common.auth.middleware import caller
from common.database import Database
from common.web.concurrency import ConcurrencyLimit
from common.web.problems import Problem
from common.web.requests import json_response, read_query
from salesapi.salesapi.authorization import check_not_purged, visible_campaign
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


class _AdmittedStream(StreamingResponse):
    """A streamed response that is counted until its end."""

    def __init__(
        self, admitted: AbstractAsyncContextManager[None], content: AsyncIterator[str], **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._admitted = admitted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._admitted:
            await super().__call__(scope, receive, send)


class CampaignEndpoints:
    """The handlers of the endpoints; `scans` bounds the reads of many rows."""

    def __init__(self, salesdb: Database, scans: ConcurrencyLimit) -> None:
        self._salesdb = salesdb
        self._scans = scans  # reads of many rows

    async def list(self, request: Request) -> Response:
        """`GET /bulksms?workspace_id=&cursor=&limit=`: campaigns, newest first."""
        query = read_query(request, CampaignsQuery)
        workspace_id = _workspace(request, query)
        page = await campaigns.page(self._salesdb, workspace_id, _position(query, UUID), query.limit)
        return json_response(
            CampaignPage(
                [CampaignView.of(campaign) for campaign in page], _next(query, [campaign.id for campaign in page])
            )
        )

    async def get(self, request: Request) -> Response:
        """`GET /bulksms/{id}`: counters, cost and timing."""
        return json_response(CampaignView.of(await self._campaign(request)))

    async def contacts(self, request: Request) -> Response:
        """`GET /bulksms/{id}/contacts?status=&cursor=&limit=`: contacts in the order of the file."""
        campaign = check_not_purged(await self._campaign(request))
        query = read_query(request, ContactsQuery)
        position = _position(query, FilePosition)
        page = ContactsPage([], -1 if position is None else position)
        key_id = caller(request).key_id
        async with self._scans.admit(key_id):
            while not page.contacts and page.last is not None:
                async with self._scans.turn(key_id):
                    page = await campaigns.contacts(
                        self._salesdb, campaign, status=query.status, after=page.last, limit=query.limit
                    )
        cursor = None if page.last is None else _cursor(page.last)
        return json_response(ContactPage([ContactView(*contact) for contact in page.contacts], cursor))

    async def rejected(self, request: Request) -> Response:
        """`GET /bulksms/{id}/rejected?cursor=&limit=`: rejected rows of the file, with reasons."""
        campaign = check_not_purged(await self._campaign(request))
        query = read_query(request, Page)
        after = _position(query, FilePosition) or 0
        async with self._scan(request):
            rows = await campaigns.rejected(self._salesdb, campaign.id, after=after, limit=query.limit)
        return json_response(
            RejectedPage([RejectedRowView(*row) for row in rows], _next(query, [row.line for row in rows]))
        )

    async def results(self, request: Request) -> Response:
        """`GET /bulksms/{id}/results.csv`: every contact and its status, streamed."""
        campaign = check_not_purged(await self._campaign(request))
        key_id = caller(request).key_id
        return _AdmittedStream(
            self._scans.admit(key_id),
            self._in_turns(key_id, _csv_lines(campaigns.results(self._salesdb, campaign))),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{campaign.id}.csv"'},
        )

    async def timeline(self, request: Request) -> Response:
        """`GET /bulksms/{id}/timeline`: messages by status over time, for a plot."""
        campaign = check_not_purged(await self._campaign(request))
        async with self._scan(request):
            points = await timeline.read(self._salesdb, campaign, datetime.now(UTC))
        return json_response(TimelineView(campaign.contact_count, [TimelinePointView(*point) for point in points]))

    @asynccontextmanager
    async def _scan(self, request: Request) -> AsyncIterator[None]:
        """Wait for the turn of a read of many rows. Raises Problem 429."""
        key_id = caller(request).key_id
        async with self._scans.admit(key_id), self._scans.turn(key_id):
            yield

    async def _in_turns(self, key_id: UUID | None, pieces: AsyncIterator[str]) -> AsyncIterator[str]:
        """The pieces of an admitted read; making each waits for its turn, sending it does not keep others waiting."""
        while True:
            async with self._scans.turn(key_id):
                piece = await anext(pieces, None)
            if piece is None:
                return
            yield piece

    async def _campaign(self, request: Request) -> Campaign:
        try:
            return await visible_campaign(self._salesdb, request, request.path_params["bulksms_id"])
        except CampaignNotFoundError as error:
            raise Problem(404, "No such campaign", str(error)) from None


def _workspace(request: Request, query: CampaignsQuery) -> UUID | None:
    """The workspace whose campaigns are listed; None for all. Raises Problem 404 if the caller may not see it."""
    workspace_id = query.workspace_id or caller(request).workspace_id
    if workspace_id and not caller(request).sees(workspace_id):
        raise Problem(404, "No such workspace", f"there is no workspace {workspace_id}")
    return workspace_id


def _next(query: Page, positions: Sequence[object]) -> str | None:
    """The cursor of the next page, if this one is full."""
    return None if len(positions) < query.limit else _cursor(positions[-1])


def _cursor(position: object) -> str:
    return base64.urlsafe_b64encode(str(position).encode()).decode().rstrip("=")


def _position(query: Page, kind: type[T]) -> T | None:
    """The position that the cursor encodes. Raises Problem 400."""
    value = query.cursor
    if value is None:
        return None
    try:
        position = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
        return msgspec.convert(position, kind, strict=False)
    except (ValueError, msgspec.ValidationError):
        raise Problem(400, "Invalid query", f"cursor={value!r} is not a valid cursor: use next_cursor") from None


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
