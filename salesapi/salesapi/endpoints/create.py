"""`POST /create`: create a campaign from an upload of contacts and a text, or refuse it with nothing stored."""

import asyncio
from datetime import datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import msgspec
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from bulksms.idempotency import Key
from common.audit_log import Actor
from common.auth.actor import actor
from common.auth.middleware import caller
from common.auth.principal import Principal
from common.database import Database
from common.web.concurrency import ConcurrencyLimit
from common.web.problems import Problem, unavailable
from rpc.client import NotFoundError, RpcClient, RpcUnavailableError
from salesapi.salesapi import idempotency_key
from salesapi.salesapi.endpoints.lifecycle import check_start_time
from salesapi.salesapi.form import read_form
from salesapi.salesapi.schemas import NAME_LENGTH, Timestamp, UploadForm
from salesapi.salesapi.upload_job import UploadJob
from salesapi.salesapi.upload_processes import UploadProcesses
from salesapi.salesapi.upload_space import UploadSpace

_FIELDS = ("name", "message", "workspace_id", "file")
_TEXTS = tuple(field for field in UploadForm.__struct_fields__ if field != "file")


class CreateEndpoint:
    """The handler. `uploads` bounds those in progress, `space` the bytes they hold; `max_bytes` limits the body."""

    def __init__(
        self,
        salesdb: Database,
        rpc: RpcClient,
        processes: UploadProcesses,
        *,
        uploads: ConcurrencyLimit,
        space: UploadSpace,
        max_bytes: int,
    ) -> None:
        self._salesdb = salesdb
        self._rpc = rpc
        self._processes = processes
        self._uploads = uploads
        self._space = space
        self._max_bytes = max_bytes

    async def endpoint(self, request: Request) -> Response:
        principal = caller(request)
        async with self._uploads.admit(principal.key_id):
            with self._space.share(principal.key_id) as share:
                form = await read_form(request, self._max_bytes, share)
                try:
                    return await self._create(form, principal, actor(request), idempotency_key.key_of(request))
                finally:
                    await form.close()

    async def _create(self, form: FormData, principal: Principal, who: Actor, key: str | None) -> Response:
        name, message = _text(form, "name").strip(), _text(form, "message")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Problem(
                400, "Field missing", "file: attach the CSV of contacts as a file, such as -F file=@contacts.csv"
            )
        if not 1 <= len(name) <= NAME_LENGTH or "\x00" in name:
            raise Problem(422, "Name not usable", f"name: must have 1 to {NAME_LENGTH} characters")
        workspace_id = _uuid(form)
        await self._check_workspace(workspace_id, principal)
        scheduled_for = _start_time(form)
        request_key = None
        if key is not None:
            request_key = Key(workspace_id, "create", key, await asyncio.to_thread(_digest, form, file))
            if stored := await idempotency_key.replay(self._salesdb, request_key, 201):
                return stored
        if scheduled_for is not None:
            check_start_time(scheduled_for)
        job = UploadJob(name, message, workspace_id, scheduled_for, request_key, who)
        async with self._uploads.turn(principal.key_id):
            result = await self._processes.create(file.file, job)
        if result.problem is not None:
            # perhaps a concurrent request with the same key created it, and took what was left of a quota
            if request_key and (stored := await idempotency_key.replay(self._salesdb, request_key, 201)):
                return stored
            raise _problem(result.problem)
        if not result.body:
            assert request_key is not None
            return await idempotency_key.replayed(self._salesdb, request_key, 201)
        return idempotency_key.response(result.body.encode(), 201)

    async def _check_workspace(self, workspace_id: UUID, principal: Principal) -> None:
        if not principal.sees(workspace_id):
            raise Problem(404, "No such workspace", f"workspace_id: there is no workspace {workspace_id}")
        try:
            await self._rpc.get_workspace_credit(workspace_id)
        except NotFoundError as error:
            raise Problem(404, "No such workspace", f"workspace_id: {error}") from None
        except RpcUnavailableError as error:
            raise unavailable(str(error)) from None


def _problem(body: dict[str, Any]) -> Problem:
    headers = {"Retry-After": "1"} if body["status"] == 503 else None
    return Problem(**body, headers=headers)


def _digest(form: FormData, file: UploadFile) -> bytes:
    """A hash of all fields and the file; leaves the file at its start."""
    digest = blake2b(digest_size=32)
    for field in _TEXTS:
        value = str(form.get(field, "")).encode()
        digest.update(b"%d:%s" % (len(value), value))
    file.file.seek(0)
    while piece := file.file.read(1 << 20):
        digest.update(piece)
    file.file.seek(0)
    return digest.digest()


def _start_time(form: FormData) -> datetime | None:
    """The time at which the campaign is scheduled, if any."""
    value = form.get("scheduled_for")
    if not value:
        return None
    try:
        return msgspec.convert(value, Timestamp, strict=False)
    except msgspec.ValidationError:
        raise Problem(
            422,
            "Time not usable",
            f"scheduled_for: {value!r} is not a time in ISO 8601 with a time zone, such as 2030-01-31T09:00:00+02:00",
        ) from None


def _text(form: FormData, field: str) -> str:
    value = form.get(field)
    if not isinstance(value, str):
        raise Problem(
            400, "Field missing", f"{field}: this field is required, with {', '.join(set(_FIELDS) - {field})}"
        )
    return value


def _uuid(form: FormData) -> UUID:
    value = _text(form, "workspace_id")
    try:
        return UUID(value)
    except ValueError:
        raise Problem(422, "Workspace id not usable", f"workspace_id: {value!r} is not a UUID") from None
