"""Metrics and tracing around any carrier adapter."""

from collections.abc import Sequence

from common.observability import tracing
from salesapi.carrier.metrics import CarrierMetrics
from salesapi.carrier.port import (
    Carrier,
    CarrierBusyError,
    CarrierError,
    CarrierRefusedError,
    CarrierUnavailableError,
    CarrierUnknownError,
    Message,
    Submission,
)

_OUTCOMES: dict[type[CarrierError], str] = {
    CarrierBusyError: "busy",
    CarrierUnavailableError: "unavailable",
    CarrierUnknownError: "unknown",
    CarrierRefusedError: "refused",
}


class MeteredCarrier:
    """Submits through `carrier` and counts the outcomes."""

    def __init__(self, carrier: Carrier, metrics: CarrierMetrics) -> None:
        self._carrier = carrier
        self._metrics = metrics

    @property
    def idempotent(self) -> bool:
        return self._carrier.idempotent

    async def submit(self, key: str, messages: Sequence[Message]) -> Submission:
        try:
            with self._metrics.seconds.time(), tracing.span("submit batch", messages=len(messages)):
                submission = await self._carrier.submit(key, messages)
        except CarrierError as error:
            self._metrics.batches.labels(_OUTCOMES.get(type(error), "unknown")).inc()
            raise
        self._metrics.batches.labels("accepted").inc()
        self._metrics.messages.labels("accepted").inc(submission.accepted)
        self._metrics.messages.labels("rejected").inc(len(submission.rejected))
        return submission

    async def close(self) -> None:
        await self._carrier.close()
