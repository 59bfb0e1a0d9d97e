"""The metrics of webapi and its worker: WebSocket clients, and outbox entries taken to the ledger."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from common.observability.metrics import UnlockedCounter


class WebSocketMetrics:
    """Who watches the credit."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.clients = Gauge("bulksms_websocket_clients", "Open WebSocket connections.", registry=metrics)
        self.frames = UnlockedCounter("bulksms_websocket_frames_total", "Credit messages sent to them.", metrics)


class CreditMetrics:
    """What the general worker does."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.entries = Counter(
            "bulksms_entries_total",
            "Outbox entries taken to the ledger: settled, or refused (beyond the credit, or of no workspace).",
            ["outcome"],
            registry=metrics,
        )
