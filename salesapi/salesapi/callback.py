"""`POST /callback`: the carrier's delivery reports. The response 200 means that every report in it is committed.

Thousands of callbacks arrive each second, so nearly all are served by their own protocol (`callback_protocol`); the
endpoint serves the rest, such as a POST with an absolute URL.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response

from bulksms import message_id
from bulksms.apply_reports import DeliveryReport
from bulksms.report_writer import BufferFullError, Outcome, ReportWriter
from bulksms.status import SmsStatus
from common.auth.signatures import HEADER
from common.database import UNAVAILABLE
from common.observability.counters import counters
from common.topology import CALLBACKS, REPORTS
from common.web.problems import Problem, unavailable
from common.web.protocol import raw
from common.web.requests import NOT_JSON, not_json, read_body
from salesapi.salesapi.callback_signatures import Signatures

log = structlog.get_logger()

Headers = list[tuple[bytes, bytes]]

MAX_BYTES = 512 * 1024
_MAX_REPORTS = 1_000


class Report(msgspec.Struct):
    """The carrier's report on one message; unknown members are ignored."""

    message_id: Annotated[str, msgspec.Meta(max_length=100)]
    status: Literal["sent", "failed", "delivered", "undelivered"]
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]
    error_code: Annotated[str, msgspec.Meta(max_length=100, pattern=r"^[^\x00]*$")] | None = None


Reports = Report | Annotated[list[Report], msgspec.Meta(min_length=1, max_length=_MAX_REPORTS)]

_decoder = msgspec.json.Decoder(Reports)
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_STATUSES = {str(status): status for status in SmsStatus}


def decode(body: bytes | bytearray) -> tuple[list[DeliveryReport], int]:
    """The reports of a request body, and the number of others whose message id was not issued by us.

    Raises Problem 400 that says what is wrong and where.
    """
    try:
        decoded = _decoder.decode(body)
    except NOT_JSON as error:
        hint = f"send {{message_id, status, timestamp, error_code?}} or an array of up to {_MAX_REPORTS}"
        raise Problem(400, "Reports not understood", f"{not_json(error)}; {hint}") from None
    reports = decoded if isinstance(decoded, list) else [decoded]
    counters[CALLBACKS] += 1
    counters[REPORTS] += len(reports)
    delivery_reports = [
        DeliveryReport(*row, _STATUSES[report.status], report.error_code, report.timestamp)
        for report in reports
        if (row := message_id.decode(report.message_id))
    ]
    return delivery_reports, len(reports) - len(delivery_reports)


def encode(outcome: Outcome, foreign: int) -> bytes:
    """The body of the response 200; `foreign`: reports whose message id was not issued by us."""
    return b'{"applied":%d,"stale":%d,"unknown":%d}' % (outcome.applied, outcome.stale, outcome.unknown + foreign)


def problem_of(error: Exception) -> Problem:
    """The problem response for reports that were not committed."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, BufferFullError):
        return unavailable("too many reports are waiting to be committed")
    if isinstance(error, UNAVAILABLE):
        log.warning("reports not committed", reason=str(error) or type(error).__name__)
        return unavailable("the database is not available")
    log.error("callback failed", exc_info=error)
    return Problem(500, "Internal error", "an unexpected error, which has been logged")


class Callback:
    """Reads callbacks and builds their responses, for the protocol and for the endpoint.

    `submit` hands reports to the writer that commits them. `on_problem` is called with the status of each response that
    is not a success.
    """

    def __init__(
        self, writer: ReportWriter, signatures: Signatures, on_problem: Callable[[int], None] = lambda status: None
    ) -> None:
        self.submit = writer.submit
        self._write = writer.write
        self._signatures = signatures
        self._on_problem = on_problem
        self._headers: Headers = []
        self._head = _OK  # including these headers

    def read(self, body: bytes | bytearray, signature: bytes) -> tuple[list[DeliveryReport], int]:
        """Check the signature and decode the reports, as `decode` does. Raises Problem 400, 401."""
        self._signatures.check(signature, body)
        return decode(body)

    def problem(self, error: Exception) -> Problem:
        """The problem response for reports that were not committed; it is counted."""
        problem = problem_of(error)
        self._on_problem(problem.status)
        return problem

    def response(self, result: Outcome | Exception, foreign: int, headers: Headers, *, keep: bool) -> bytes:
        """The bytes of the response, with `headers` first; `keep`: the connection stays open."""
        if isinstance(result, Exception):
            return raw(self.problem(result), headers, keep=keep)
        if headers is not self._headers:  # the server replaces them each second
            self._headers = headers
            self._head = _OK + b"".join(b"%s: %s\r\n" % header for header in headers)
        body = encode(result, foreign)
        close = b"" if keep else b"connection: close\r\n"
        return b"%s%scontent-length: %d\r\n\r\n%s" % (self._head, close, len(body), body)

    async def endpoint(self, request: Request) -> Response:
        """`POST /callback` on a connection that `ConnectionProtocol` has handed over to uvicorn."""
        try:
            body = await read_body(request, MAX_BYTES)
            reports, foreign = self.read(body, request.headers.get(HEADER, "").encode("latin-1"))
            outcome = await self._write(reports)
        except Exception as error:
            raise self.problem(error) from None
        return Response(encode(outcome, foreign), media_type="application/json")
