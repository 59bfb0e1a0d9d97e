"""`POST /erase`: take a phone number out of everything that is stored, with a receipt."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
import phonenumbers
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from bulksms import erasure
from bulksms.contacts.numbering_plan import PhoneError
from bulksms.contacts.phone import PhoneNormaliser
from bulksms.erasure import ErasureRunningError
from bulksms.outbox import Entry
from common.auth.actor import actor
from common.auth.middleware import caller
from common.database import Database
from common.web.problems import Problem
from common.web.requests import json_response, read_json

_MIN_DIGITS = 7  # of a national number that is searched for without its country code


class EraseRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The number to erase; an operator may limit it to a workspace."""

    number: Annotated[str, Meta(min_length=1, max_length=40, description="E.164, or national form of DEFAULT_REGION")]
    workspace_id: UUID | None = None


class ReceiptView(msgspec.Struct):
    """What was erased. Keep `proof`: the hash in the audit log is HMAC-SHA256 of the number, keyed with it."""

    id: Annotated[UUID, Meta(description="of the entry in the audit log")]
    at: Annotated[datetime, Meta(tz=True)]
    number_hash: str
    proof: str
    erased: Annotated[
        dict[str, int],
        Meta(description="`contacts`, `unsent` of them, `rejected` rows, `answers` stored for idempotency keys"),
    ]


class EraseEndpoint:
    """The handler; `on_entries` gets the outbox entries of campaigns that end because of it."""

    def __init__(self, salesdb: Database, region: str, on_entries: Callable[[Sequence[Entry]], None]) -> None:
        self._salesdb = salesdb
        self._normaliser = PhoneNormaliser(region)
        self._on_entries = on_entries

    async def endpoint(self, request: Request) -> Response:
        body = await read_json(request, EraseRequest, limit=4 * 1024)
        workspace_id = body.workspace_id or caller(request).workspace_id
        if workspace_id and not caller(request).sees(workspace_id):
            raise Problem(404, "No such workspace", f"workspace_id: there is no workspace {workspace_id}")
        try:
            number = self._normaliser.normalise(body.number)
        except PhoneError as error:
            raise Problem(422, "Number not usable", f"number: {error}; write it as +358401234567") from None
        try:
            receipt, entries = await erasure.erase(self._salesdb, number, _digits(number), workspace_id, actor(request))
        except ErasureRunningError as error:
            raise Problem(
                429, "Too many requests", f"{error}; nothing was erased, try again", headers={"Retry-After": "5"}
            ) from None
        self._on_entries(entries)
        return json_response(ReceiptView(*receipt))


def _digits(number: str) -> str:
    """The digits that every way to write the number holds: those without the country code, unless they are few."""
    national = str(phonenumbers.parse(number).national_number)
    return national if len(national) >= _MIN_DIGITS else number[1:]
