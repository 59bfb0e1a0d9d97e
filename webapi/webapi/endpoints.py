"""The HTTP endpoints of webapi: a workspace's credit, its top-up, and its campaigns as the rpc node has them."""

from decimal import Decimal
from typing import Annotated
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from common.auth.actor import actor, note_object
from common.auth.middleware import caller
from common.database import Database
from common.jobs import JobQueue, JobsUnavailableError
from common.money import PATTERN, MoneyError, parse_credits
from common.topology import GENERAL_QUEUE, TOPUP_CREDIT
from common.web.problems import Problem, ProblemDetails, unavailable
from common.web.requests import json_response, read_json, read_query
from rpc.client import NotFoundError, Progress, RpcClient, RpcUnavailableError
from webapi.webapi.credit_events import CreditView, encode
from workspace import credit
from workspace.credit import WorkspaceNotFoundError

_PAGE_SIZE = 100


class TopUp(msgspec.Struct, forbid_unknown_fields=True):
    """Credits to add. The same `reference` adds them once, however often it is sent."""

    amount: Annotated[
        str,
        Meta(
            max_length=40,
            description="credits above 0 in whole tenths, such as 12.5",
            extra_json_schema={"pattern": PATTERN},
        ),
    ]
    reference: Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00]*$")] | None = None


class ToppedUp(msgspec.Struct):
    """The credit afterwards, and the reference to repeat if the response is lost."""

    workspace_id: UUID
    credit: Decimal
    available: Decimal
    version: int
    reference: str


class ReferenceInUse(ProblemDetails):
    """An amount that is not valid; or, with both amounts, one that differs from that of the reference's first use."""

    recorded: Decimal | None = None
    amount: Decimal | None = None


class WorkspacesQuery(msgspec.Struct):
    """The page of workspaces to list."""

    cursor: Annotated[UUID, Meta(description="`next_cursor` of the page before")] | None = None


class WorkspacePage(msgspec.Struct):
    """Workspaces with their credit, oldest first."""

    workspaces: list[CreditView]
    next_cursor: Annotated[UUID, Meta(description="the `cursor` of the next page")] | None


class ProgressList(msgspec.Struct):
    """Campaigns, newest first."""

    bulksms: list[Progress]


class Endpoints:
    """The handlers, with what they need."""

    def __init__(self, ds: Database, jobs: JobQueue, rpc: RpcClient) -> None:
        self._ds = ds
        self._jobs = jobs
        self._rpc = rpc

    async def list_workspaces(self, request: Request) -> Response:
        """`GET /workspaces?cursor=`: all workspaces with their credit, oldest first; or the key's own."""
        query = read_query(request, WorkspacesQuery)
        own = caller(request).workspace_id
        if own is not None:
            workspaces, next_cursor = await credit.get_many(self._ds, [own]), None
        else:
            workspaces = await credit.page(self._ds, query.cursor, _PAGE_SIZE)
            next_cursor = workspaces[-1].workspace_id if len(workspaces) == _PAGE_SIZE else None
        return json_response(WorkspacePage([CreditView.of(current) for current in workspaces], next_cursor))

    async def get_workspace(self, request: Request) -> Response:
        """`GET /workspaces/{id}`: the credit now."""
        try:
            current = await credit.get(self._ds, _workspace(request))
        except WorkspaceNotFoundError as error:
            raise Problem(404, "No such workspace", str(error)) from None
        return Response(encode(current), media_type="application/json")

    async def top_up(self, request: Request) -> Response:
        """`POST /workspaces/{id}/topup`: add credit; responds once it is in the ledger.

        The general worker does it, like every change of credit except a reservation. If it does not reply in time, the
        client may repeat the request: the same reference adds the credit once.
        """
        workspace_id = _workspace(request)
        if not caller(request).is_operator:
            raise Problem(403, "Operator key needed", "only an operator's key can add credit")
        topup = await read_json(request, TopUp)
        try:
            amount = parse_credits(topup.amount)
        except MoneyError as error:
            raise Problem(422, "Invalid amount", f"amount: {error}") from None
        if amount <= 0:
            raise Problem(422, "Invalid amount", "amount: must be greater than 0")
        reference = topup.reference or uuid4().hex
        try:
            result = await self._jobs.call(
                GENERAL_QUEUE,
                TOPUP_CREDIT,
                str(workspace_id),
                str(amount),
                reference,
                msgspec.to_builtins(actor(request)),
                timeout=5,
            )
        except JobsUnavailableError as error:
            raise unavailable(
                f"{error} (repeat the request with the reference {reference!r}: the credit is added once)"
            ) from None
        if result is None:
            raise _no_workspace(workspace_id)
        if recorded := result.get("recorded"):
            raise Problem(
                422,
                "Reference in use",
                f"reference: {reference!r} has already added {recorded} credits, not {amount}: repeat it with that "
                "amount, or use a new reference",
                recorded=recorded,
                amount=amount,
            )
        return json_response(msgspec.convert({**result, "reference": reference}, ToppedUp))

    async def get_campaign(self, request: Request) -> Response:
        """`GET /bulksms/{id}`: a campaign's progress, from the rpc node."""
        bulksms_id = _uuid(request, "bulksms_id")
        try:
            progress = await self._rpc.get_progress(bulksms_id)
        except NotFoundError as error:
            raise Problem(404, "No such campaign", str(error)) from None
        except RpcUnavailableError as error:
            raise unavailable(str(error)) from None
        if not caller(request).sees(progress.workspace_id):
            raise Problem(404, "No such campaign", f"there is no campaign {bulksms_id}")
        return json_response(progress)

    async def list_campaigns(self, request: Request) -> Response:
        """`GET /workspaces/{id}/bulksms`: the newest campaigns of a workspace, from the rpc node."""
        try:
            campaigns = await self._rpc.list_progress(_workspace(request), limit=100)
        except RpcUnavailableError as error:
            raise unavailable(str(error)) from None
        return json_response(ProgressList(campaigns))


def _workspace(request: Request) -> UUID:
    """The workspace of the path. Raises Problem 404 if the caller may not see it, as if it did not exist."""
    workspace_id = _uuid(request, "workspace_id")
    note_object(request, workspace_id)
    if not caller(request).sees(workspace_id):
        raise _no_workspace(workspace_id)
    return workspace_id


def _no_workspace(workspace_id: UUID) -> Problem:
    return Problem(404, "No such workspace", f"there is no workspace {workspace_id}")


def _uuid(request: Request, name: str) -> UUID:
    value = request.path_params[name]
    try:
        return UUID(value)
    except ValueError:
        raise Problem(404, "No such resource", f"{value!r} is not a valid {name}: it must be a UUID") from None
