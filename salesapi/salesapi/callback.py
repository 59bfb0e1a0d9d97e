"""`POST /callback`: the carrier's delivery reports, the one hot path of the system.

A bare ASGI callable: thousands of requests a second pass here, and a framework's layers would cost more than the work.
The answer 200 means that every report in the request is committed.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import structlog

from bulksms import message_id
from bulksms.report_writer import BufferFullError, Outcome, ReportWriter
from bulksms.reports import Step
from bulksms.status import SmsStatus
from common.database import UNAVAILABLE
from common.problems import Problem, unavailable

log = structlog.get_logger()

_MOST_REPORTS = 1_000
_MOST_BYTES = 512 * 1024


class Report(msgspec.Struct):
    """What the carrier tells of one message; further members are ignored."""

    message_id: Annotated[str, msgspec.Meta(max_length=100)]
    status: Literal["sent", "failed", "delivered", "undelivered"]
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    error_code: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[^\x00]*$")] | None = None


_Reports = Annotated[list[Report], msgspec.Meta(min_length=1, max_length=_MOST_REPORTS)]
_decoder = msgspec.json.Decoder(Report | _Reports)
_JSON = [(b"content-type", b"application/json")]


class Callback:
    """The ASGI callable, over a writer that commits."""

    def __init__(self, writer: ReportWriter) -> None:
        self._writer = writer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            outcome = await self._take(scope, receive)
        except Problem as problem:
            await problem.response()(scope, receive, send)
            return
        body = b'{"applied":%d,"stale":%d,"unknown":%d}' % outcome
        headers = [*_JSON, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _take(self, scope: Any, receive: Any) -> Outcome:
        if scope["method"] != "POST":
            raise Problem(405, "Method Not Allowed", "reports are sent with POST", headers={"Allow": "POST"})
        steps, foreign = decode(await _body(receive))
        try:
            outcome = await self._writer.write(steps) if steps else Outcome(0, 0, 0)
        except BufferFullError:
            raise unavailable("too many reports are waiting to be committed") from None
        except UNAVAILABLE as error:
            log.warning("reports not committed", reason=str(error) or type(error).__name__)
            raise unavailable("the database does not answer") from None
        return outcome._replace(unknown=outcome.unknown + foreign) if foreign else outcome


def decode(body: bytes | bytearray) -> tuple[list[Step], int]:
    """The reports of a request body, and how many of them name what cannot be a message of ours.

    Raises Problem 400 with what is wrong and where.
    """
    try:
        decoded = _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise Problem(
            400,
            "Reports not understood",
            f"{error}; send {{message_id, status, timestamp, error_code?}} or an array of up to {_MOST_REPORTS}",
        ) from None
    reports = decoded if isinstance(decoded, list) else [decoded]
    steps = [
        Step(*row, SmsStatus(report.status), report.error_code)
        for report in reports
        if (row := message_id.decode(report.message_id))
    ]
    return steps, len(reports) - len(steps)


async def _body(receive: Any) -> bytearray:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "Body not complete", "the connection was closed in mid-body")
        body += message.get("body", b"")
        if len(body) > _MOST_BYTES:
            raise Problem(413, "Body too large", f"this takes at most {_MOST_BYTES} bytes")
        if not message.get("more_body", False):
            return body
