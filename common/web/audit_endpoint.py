"""`GET /audit`: the audit log of a service, all of it to operators and its own to a workspace."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from common import audit_log
from common.audit_log import Entry, Filter, Role
from common.auth.middleware import caller
from common.database import Database
from common.web.operations import Operation
from common.web.problems import Problem
from common.web.requests import json_response, read_query

Time = Annotated[datetime, Meta(tz=True)]


class AuditQuery(msgspec.Struct):
    """Which entries to list, and the page."""

    workspace_id: UUID | None = None
    action: Annotated[str, Meta(max_length=40, pattern="^[a-z_.]*$", description="such as `campaign.run`")] | None = (
        None
    )
    object_id: Annotated[UUID, Meta(description="a campaign, a key or a workspace")] | None = None
    since: Annotated[Time, Meta(description="entries from this time on, ISO 8601 with a time zone")] | None = None
    until: Annotated[Time, Meta(description="entries before this time")] | None = None
    cursor: Annotated[UUID, Meta(description="`next_cursor` of the page before")] | None = None
    limit: Annotated[int, Meta(ge=1, le=1_000)] = 100


class AuditEntryView(msgspec.Struct):
    """Who did what, when, from where, on which object, and with which outcome."""

    id: UUID
    at: Time
    role: Annotated[Role, Meta(description="whose key it was; `console`: a command on the database; or a worker")]
    name: Annotated[str, Meta(description="the operating system's user of a command, or the worker")]
    key_id: UUID | None
    workspace_id: Annotated[UUID, Meta(description="whose data it concerns")] | None
    address: str
    request_id: str
    action: str
    object_id: UUID | None
    outcome: Annotated[str, Meta(description="`done`, or the status and title of the refusal")]
    details: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> "AuditEntryView":
        return cls(**{**entry._asdict(), "details": msgspec.json.decode(entry.details)})


class AuditPage(msgspec.Struct):
    """Entries of the audit log, newest first."""

    entries: list[AuditEntryView]
    next_cursor: Annotated[UUID, Meta(description="the `cursor` of the next page")] | None


def operation(database: Database) -> Operation:
    """The operation of a service whose audit log is in `database`."""

    async def audit(request: Request) -> Response:
        query = read_query(request, AuditQuery)
        workspace_id = query.workspace_id or caller(request).workspace_id
        if workspace_id and not caller(request).sees(workspace_id):
            raise Problem(404, "No such workspace", f"there is no workspace {workspace_id}")
        wanted = Filter(workspace_id, query.action, query.object_id, query.since, query.until, query.cursor)
        entries = [AuditEntryView.of(entry) for entry in await audit_log.page(database, wanted, query.limit)]
        next_cursor = entries[-1].id if len(entries) == query.limit else None
        return json_response(AuditPage(entries, next_cursor))

    return Operation(
        "GET",
        "/audit",
        audit,
        "Who changed what, newest first: everything for operators, its own for a workspace",
        {200: AuditPage},
        problems=(404,),
        query=AuditQuery,
    )
