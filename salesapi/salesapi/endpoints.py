"""salesapi over HTTP: read campaigns, their contacts, rejected rows and results."""

import base64
import csv
import io
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bulksms import campaigns
from bulksms.campaigns import Campaign, CampaignNotFoundError, Contact
from bulksms.status import SmsStatus
from common.access import caller
from common.database import Database
from common.problems import Problem
from common.web import json
from salesapi.salesapi.ownership import owned
from salesapi.salesapi.present import present

T = TypeVar("T")

_PAGE = 100
_LARGEST_PAGE = 1_000


class Endpoints:
    """The handlers, with what they need."""

    def __init__(self, salesdb: Database) -> None:
        self._salesdb = salesdb

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/bulksms", self.list),
            Route("/bulksms/{bulksms_id}", self.get),
            Route("/bulksms/{bulksms_id}/contacts", self.contacts),
            Route("/bulksms/{bulksms_id}/rejected", self.rejected),
            Route("/bulksms/{bulksms_id}/results.csv", self.results),
        ]

    async def list(self, request: Request) -> Response:
        """`GET /bulksms?workspace_id=&cursor=&limit=`: campaigns, newest first."""
        workspace_id = _workspace(request)
        limit = _limit(request)
        found = await campaigns.page(self._salesdb, workspace_id, _cursor(request, UUID), limit)
        return json(
            {
                "bulksms": [present(campaign) for campaign in found],
                "next_cursor": _next(str(found[-1].id)) if len(found) == limit else None,
            }
        )

    async def get(self, request: Request) -> Response:
        """`GET /bulksms/{id}`: counters, cost and timing."""
        return json(present(await self._campaign(request)))

    async def contacts(self, request: Request) -> Response:
        """`GET /bulksms/{id}/contacts?status=&cursor=&limit=`: contacts in the order of the file."""
        campaign = await self._campaign(request)
        limit = _limit(request)
        after = _cursor(request, int)
        found = await campaigns.contacts(
            self._salesdb,
            campaign.id,
            status=_query(request, "status", SmsStatus),
            after=-1 if after is None else after,
            limit=limit,
        )
        return json(
            {
                "contacts": [contact._asdict() for contact in found],
                "next_cursor": _next(str(found[-1].seq)) if len(found) == limit else None,
            }
        )

    async def rejected(self, request: Request) -> Response:
        """`GET /bulksms/{id}/rejected?cursor=&limit=`: rows of the file that were not taken, and why."""
        campaign = await self._campaign(request)
        limit = _limit(request)
        found = await campaigns.rejected(self._salesdb, campaign.id, after=_cursor(request, int) or 0, limit=limit)
        return json(
            {
                "rejected": [row._asdict() for row in found],
                "next_cursor": _next(str(found[-1].line)) if len(found) == limit else None,
            }
        )

    async def results(self, request: Request) -> Response:
        """`GET /bulksms/{id}/results.csv`: every contact with what became of it, streamed."""
        campaign = await self._campaign(request)
        return StreamingResponse(
            _csv(campaigns.results(self._salesdb, campaign.id)),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{campaign.id}.csv"'},
        )

    async def _campaign(self, request: Request) -> Campaign:
        try:
            return await owned(self._salesdb, request, request.path_params["bulksms_id"])
        except CampaignNotFoundError as error:
            raise Problem(404, "No such campaign", str(error)) from None


async def _csv(chunks: AsyncIterator[Iterable[Contact]]) -> AsyncIterator[str]:
    yield ",".join(Contact._fields) + "\r\n"
    async for chunk in chunks:
        text = io.StringIO()
        csv.writer(text).writerows(chunk)
        yield text.getvalue()


def _workspace(request: Request) -> UUID | None:
    """Whose campaigns are asked for; None for all of them. Raises Problem 404 if the caller may not know of it."""
    workspace_id = _query(request, "workspace_id", UUID) or caller(request).workspace_id
    if workspace_id and not caller(request).sees(workspace_id):
        raise Problem(404, "No such workspace", f"there is no workspace {workspace_id}")
    return workspace_id


def _query(request: Request, name: str, kind: type[T]) -> T | None:
    """A parameter of the query, or None where it is missing or empty. Raises Problem 400."""
    value = request.query_params.get(name)
    if not value:
        return None
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, "Query not understood", f"{name}={value!r}: {error}") from None


def _limit(request: Request) -> int:
    limit = _query(request, "limit", int)
    if limit is not None and not 1 <= limit <= _LARGEST_PAGE:
        raise Problem(400, "Query not understood", f"limit={limit}: must be 1 to {_LARGEST_PAGE}")
    return limit or _PAGE


def _next(position: str) -> str:
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def _cursor(request: Request, kind: type[T]) -> T | None:
    """The position that a cursor of ours stands for. Raises Problem 400."""
    value = request.query_params.get("cursor")
    if not value:
        return None
    try:
        position = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)).decode()
        return msgspec.convert(position, kind, strict=False)
    except (ValueError, msgspec.ValidationError):
        raise Problem(400, "Query not understood", f"cursor={value!r} is none of ours: use next_cursor") from None
