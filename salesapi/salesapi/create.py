"""`POST /create`: an upload of contacts and a text becomes a campaign, or is refused with nothing kept of it."""

from decimal import Decimal
from typing import Any
from uuid import UUID

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import Response

from bulksms import upload
from bulksms.contacts import ContactReader, Rejected
from bulksms.csv_text import CsvError
from bulksms.message import MessageError, count_segments
from bulksms.phone import PhoneNormaliser
from bulksms.upload import NoContactsError
from common.database import Database
from common.problems import Problem, unavailable
from common.web import json
from rpc.client import NotFoundError, RpcClient, RpcUnavailableError

_FIELDS = ("name", "message", "workspace_id", "file")
_NAME_LENGTH = 200


class Create:
    """The handler; `price` is credits per segment, `max_bytes` bounds the body."""

    def __init__(self, salesdb: Database, rpc: RpcClient, *, region: str, price: Decimal, max_bytes: int) -> None:
        self._salesdb = salesdb
        self._rpc = rpc
        self._normaliser = PhoneNormaliser(region)
        self._price = price
        self._max_bytes = max_bytes

    async def __call__(self, request: Request) -> Response:
        form = await self._form(request)
        try:
            return await self._create(form)
        finally:
            await form.close()

    async def _form(self, request: Request) -> FormData:
        """The multipart fields; the file is spooled to disk as it comes in."""
        if not request.headers.get("content-type", "").startswith("multipart/form-data"):
            raise Problem(415, "Not multipart", f"send multipart/form-data with the fields {', '.join(_FIELDS)}")

        async def bounded() -> Any:
            received = 0
            async for piece in request.stream():
                received += len(piece)
                if received > self._max_bytes:
                    raise Problem(413, "Upload too large", f"an upload may have at most {self._max_bytes} bytes")
                yield piece

        try:
            return await MultiPartParser(request.headers, bounded(), max_files=1, max_fields=10).parse()
        except MultiPartException as error:
            raise Problem(400, "Multipart not understood", error.message) from None

    async def _create(self, form: FormData) -> Response:
        name, message = _text(form, "name").strip(), _text(form, "message")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Problem(
                400, "Field missing", "file: attach the CSV of contacts as a file, such as -F file=@contacts.csv"
            )
        if not 1 <= len(name) <= _NAME_LENGTH or "\x00" in name:
            raise Problem(422, "Name not usable", f"name: must have 1 to {_NAME_LENGTH} characters")
        workspace_id = _uuid(form)
        await self._check_workspace(workspace_id)
        try:
            reader = ContactReader(file.file, message, self._normaliser)
            made = await upload.create(
                self._salesdb, name=name, workspace_id=workspace_id, reader=reader, price=self._price
            )
        except CsvError as error:
            raise Problem(422, "CSV not usable", f"file: {error}") from None
        except MessageError as error:
            raise Problem(422, "Message not usable", f"message: {error}") from None
        except NoContactsError as error:
            raise Problem(422, "No contacts", f"file: {error}", rejected_rows=_rejected(error.first)) from None
        return json(
            {
                "bulksms_id": made.bulksms_id,
                "name": name,
                "status": "created",
                "rows": reader.rows,
                "accepted": reader.accepted,
                "rejected": reader.rejected,
                "duplicate": reader.duplicates,
                "rejected_rows": _rejected(made.first_rejected),
                "encoding": count_segments(message).encoding,
                "segments": reader.max_segments,
                "total_segments": reader.segments,
                "total_cost": made.total_cost,
            },
            201,
            {"Location": f"/bulksms/{made.bulksms_id}"},
        )

    async def _check_workspace(self, workspace_id: UUID) -> None:
        try:
            await self._rpc.get_workspace_credit(workspace_id)
        except NotFoundError as error:
            raise Problem(404, "No such workspace", f"workspace_id: {error}") from None
        except RpcUnavailableError as error:
            raise unavailable(str(error)) from None


def _text(form: FormData, field: str) -> str:
    value = form.get(field)
    if not isinstance(value, str):
        raise Problem(
            400, "Field missing", f"{field}: this field is needed, beside {', '.join(set(_FIELDS) - {field})}"
        )
    return value


def _uuid(form: FormData) -> UUID:
    value = _text(form, "workspace_id")
    try:
        return UUID(value)
    except ValueError:
        raise Problem(422, "Workspace id not usable", f"workspace_id: {value!r} is no UUID") from None


def _rejected(rows: list[Rejected]) -> list[dict[str, Any]]:
    return [{"line": row.line, "value": row.value, "reason": row.reason} for row in rows]
