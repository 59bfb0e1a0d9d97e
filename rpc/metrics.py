"""The metrics of the rpc node: its calls, and the audit of both databases."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.observability.metrics import LATENCY_BUCKETS


class RpcMetrics:
    """gRPC calls, under the names that gRPC's own interceptors use elsewhere."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.handled = Counter(
            "grpc_server_handled_total", "gRPC calls answered.", ["grpc_method", "grpc_code"], registry=metrics
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "From a gRPC call to its answer.",
            ["grpc_method"],
            buckets=LATENCY_BUCKETS,
            registry=metrics,
        )


class AuditMetrics:
    """Whether the books balance."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.differences = Gauge(
            "bulksms_audit_differences", "What the last audit found not to add up; always 0.", registry=metrics
        )
        self.time = Gauge(
            "bulksms_audit_timestamp_seconds", "When the last audit ended, in Unix time; 0 before.", registry=metrics
        )
