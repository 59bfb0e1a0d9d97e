"""The metrics of webapi and of the general worker: WebSocket clients, and outbox entries settled in the ledger."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from common.observability.metrics import UnlockedCounter


class WebSocketMetrics:
    """Metrics of the WebSocket: its clients and the messages sent to them."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.clients = Gauge("bulksms_websocket_clients", "Open WebSocket connections.", registry=metrics)
        self.frames = UnlockedCounter("bulksms_websocket_frames_total", "Credit messages sent to them.", metrics)


class CreditMetrics:
    """Metrics of the general worker: outbox entries by outcome."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.entries = Counter(
            "bulksms_entries_total",
            "Outbox entries: settled in the ledger, or refused (beyond the credit, or of an unknown workspace).",
            ["outcome"],
            registry=metrics,
        )
