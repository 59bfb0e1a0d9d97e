"""The metrics of the rpc node: its calls, and the audit of both databases."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.observability.metrics import LATENCY_BUCKETS


class RpcMetrics:
    """Metrics of gRPC calls, under the names that the interceptors of other gRPC libraries use."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.handled = Counter(
            "grpc_server_handled_total", "gRPC calls answered.", ["grpc_method", "grpc_code"], registry=metrics
        )
        self.seconds = Histogram(
            "grpc_server_handling_seconds",
            "Duration of a gRPC call.",
            ["grpc_method"],
            buckets=LATENCY_BUCKETS,
            registry=metrics,
        )


class AuditMetrics:
    """The result of the last audit."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.differences = Gauge(
            "bulksms_audit_differences", "Differences found by the last audit; must be 0.", registry=metrics
        )
        self.time = Gauge(
            "bulksms_audit_timestamp_seconds", "When the last audit ended, in Unix time; 0 before.", registry=metrics
        )
