"""An upload as a job for another process: what is sent to it, and what it answers."""

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any, BinaryIO
from uuid import UUID

import msgspec
import structlog

from bulksms import idempotency, upload
from bulksms.contacts.csv_text import CsvError
from bulksms.contacts.phone import PhoneNormaliser
from bulksms.contacts.reader import ContactReader, RejectedRow
from bulksms.idempotency import Key, KeyInUseError
from bulksms.message import MessageError
from bulksms.quotas import QuotaExceededError, Quotas
from bulksms.upload import Created, NoContactsError
from common.audit_log import Actor
from common.database import UNAVAILABLE, Database
from common.web.problems import Problem, unavailable
from salesapi.salesapi.schemas import CreatedView, RejectedRowView, quota_exceeded

log = structlog.get_logger()


class UploadJob(msgspec.Struct):
    """A campaign to create from a file, which is sent beside it.

    `key`: the idempotency key of the request; `actor`: who makes it.
    """

    name: str
    message: str
    workspace_id: UUID
    scheduled_for: datetime | None
    key: Key | None
    actor: Actor


class UploadResult(msgspec.Struct):
    """The JSON of the response 201, or problem details; neither if the key was used by a concurrent request."""

    body: str = ""
    problem: dict[str, Any] | None = None

    @classmethod
    def of(cls, problem: Problem) -> "UploadResult":
        """The result of an upload that is refused."""
        return cls(problem=problem.body)


async def create(
    salesdb: Database, file: BinaryIO, job: UploadJob, *, normaliser: PhoneNormaliser, price: Decimal, quotas: Quotas
) -> UploadResult:
    """Create the campaign of a job, or nothing; never raises. `price` is credits per segment."""
    try:
        reader = await asyncio.to_thread(ContactReader, file, job.message, normaliser)
        async with salesdb.transaction() as connection:
            created = await upload.create(
                connection,
                name=job.name,
                workspace_id=job.workspace_id,
                reader=reader,
                price=price,
                scheduled_for=job.scheduled_for,
                limits=quotas,
                actor=job.actor,
            )
            body = msgspec.json.encode(_view(created, job, reader))
            if job.key:
                await idempotency.store_once(connection, job.key, body)
    except CsvError as error:
        return UploadResult.of(Problem(422, "CSV not usable", f"file: {error}"))
    except MessageError as error:
        return UploadResult.of(Problem(422, "Message not usable", f"message: {error}"))
    except NoContactsError as error:
        rows = msgspec.to_builtins(_rejected(error.first))
        return UploadResult.of(Problem(422, "No contacts", f"file: {error}", rejected_rows=rows))
    except QuotaExceededError as error:
        return UploadResult.of(quota_exceeded(error))
    except KeyInUseError:
        return UploadResult()
    except UNAVAILABLE as error:
        log.warning("an upload was not stored", reason=str(error) or type(error).__name__)
        return UploadResult.of(unavailable("the database does not answer"))
    except Exception as error:
        log.error("an upload has failed", exc_info=error)
        return UploadResult.of(
            Problem(500, "Internal error", "this is a fault of the service, not of your request; it has been logged")
        )
    return UploadResult(body.decode())


def _view(created: Created, job: UploadJob, reader: ContactReader) -> CreatedView:
    return CreatedView(
        bulksms_id=created.bulksms_id,
        name=job.name,
        status=created.status,
        scheduled_for=job.scheduled_for,
        rows=reader.rows,
        accepted=reader.accepted,
        rejected=reader.rejected,
        duplicate=reader.duplicates,
        rejected_rows=_rejected(created.first_rejected),
        encoding=created.encoding,
        segments=reader.max_segments,
        total_segments=reader.segments,
        total_cost=created.total_cost,
    )


def _rejected(rows: list[RejectedRow]) -> list[RejectedRowView]:
    return [RejectedRowView(row.line, row.value, row.reason) for row in rows]
