"""The adapter to a carrier that speaks the simulator's HTTP API."""

from collections.abc import Sequence

import msgspec

from common.observability import tracing
from common.observability.counters import counters
from common.topology import BATCHES, MESSAGES
from salesapi.carrier.http_client import CarrierClient, Response
from salesapi.carrier.port import (
    CarrierBusyError,
    CarrierRefusedError,
    CarrierUnknownError,
    Message,
    Submission,
)


class Rejection(msgspec.Struct):
    """A message of a batch that the carrier rejected."""

    message_id: str
    reason: str


class Batch(msgspec.Struct):
    """The body of `POST /messages`."""

    callback_url: str
    messages: list[Message]


class Accepted(msgspec.Struct):
    """The response to `POST /messages`."""

    accepted: int
    rejected: list[Rejection]


class HttpCarrier:
    """Submits batches over persistent connections; `timeout` in seconds for a whole call.

    `idempotent`: the carrier supports the header Idempotency-Key; otherwise it is not sent.
    """

    def __init__(self, url: str, callback_url: str, timeout: float, *, idempotent: bool = True) -> None:
        self.idempotent = idempotent
        self._url = f"{url}/messages"
        self._callback_url = callback_url
        self._client = CarrierClient(timeout)

    async def submit(self, key: str, messages: Sequence[Message]) -> Submission:
        """Submit a batch under its idempotency key. Raises one of the CarrierErrors."""
        counters[BATCHES] += 1
        counters[MESSAGES] += len(messages)
        body = msgspec.json.encode(Batch(self._callback_url, list(messages)))
        headers = {"Content-Type": "application/json"}
        if self.idempotent:
            headers["Idempotency-Key"] = key
        if traceparent := tracing.traceparent():
            headers["traceparent"] = traceparent
        response = await self._client.post(self._url, body, headers)
        try:
            return _read(response)
        except msgspec.MsgspecError as error:
            raise CarrierUnknownError(f"no valid response: {error}") from error

    async def close(self) -> None:
        await self._client.close()


def _read(response: Response) -> Submission:
    if response.status == 202:
        accepted = msgspec.json.decode(response.body, type=Accepted)
        return Submission(
            accepted.accepted, [(rejection.message_id, rejection.reason) for rejection in accepted.rejected]
        )
    details = f"{response.status} {response.body[:200].decode(errors='replace')}"
    if response.status == 429:
        raise CarrierBusyError(details, _parse_seconds(response.headers.get("Retry-After", "1")))
    if 400 <= response.status < 500 and response.status != 408:
        raise CarrierRefusedError(details)
    raise CarrierUnknownError(details)


def _parse_seconds(header: str) -> float:
    try:
        return min(max(float(header), 0.0), 60.0)
    except ValueError:
        return 1.0
