"""The metrics that MeteredCarrier updates."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from common.observability.metrics import LATENCY_BUCKETS


class CarrierMetrics:
    """Metrics of submissions to a carrier."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.batches = Counter(
            "bulksms_carrier_batches_total",
            "Submissions to the carrier by outcome: accepted, busy, unavailable, unknown, refused.",
            ["outcome"],
            registry=metrics,
        )
        self.messages = Counter(
            "bulksms_carrier_messages_total",
            "Messages of accepted batches by outcome: accepted, rejected.",
            ["outcome"],
            registry=metrics,
        )
        self.seconds = Histogram(
            "bulksms_carrier_seconds",
            "Duration of a submission to the carrier.",
            buckets=LATENCY_BUCKETS,
            registry=metrics,
        )
