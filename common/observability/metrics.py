"""Every metric of the system in one place: its name after Prometheus' conventions, its labels, what it means.

A process makes the groups that it needs, on a registry of its own, and hands them to what counts. What all processes
share (the queues, the outbox, the campaigns) is told by one kind of process only, and read when it is asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client import generate_latest as _text
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.observability.counters import failures

log = structlog.get_logger()

# Reads what is told of state that lives elsewhere, such as the length of a queue.
Refresh = Callable[[], Awaitable[None]]

_REFRESH_TIMEOUT = 2.0  # seconds; without its databases a process still tells what it has counted
_LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def registry() -> CollectorRegistry:
    """A registry with what every process tells: `process_cpu_seconds_total`, memory, open files, start time."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    made.register(_Failures())
    return made


class _Failures(Collector):
    """What has failed in this process without stopping it, see `counters.failures`."""

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "bulksms_failures_total",
            "Failures that were survived: of background tasks, observers and jobs; what cannot be read in Redis.",
            labels=["kind", "name"],
        )
        for labels, count in failures.items():
            family.add_metric(labels, count)
        yield family


def route(metrics: CollectorRegistry, refreshes: Sequence[Refresh] = ()) -> Route:
    """`GET /metrics`, in Prometheus' text format."""

    async def answer(request: Request) -> Response:
        await asyncio.gather(*(_refreshed(refresh) for refresh in refreshes))
        return Response(_text(metrics), media_type=CONTENT_TYPE_LATEST)

    return Route("/metrics", answer)


async def _refreshed(refresh: Refresh) -> None:
    try:
        async with asyncio.timeout(_REFRESH_TIMEOUT):
            await refresh()
    except Exception as error:
        log.warning("some metrics could not be read", reason=str(error) or type(error).__name__)


class HttpMetrics:
    """Requests of a web service, by the route that answered (never by its path: paths have no end)."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests_total",
            "HTTP requests answered. POST /callback is counted with the flush that committed it.",
            ["method", "route", "status"],
            registry=metrics,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "From a request to the end of its answer; POST /callback is not in it, see bulksms_callback_lag_seconds.",
            ["route"],
            buckets=_LATENCIES,
            registry=metrics,
        )

    def counter(self, method: str, route: str, status: int) -> Counter:
        """What counts the requests of a kind; for those that are answered beside the app."""
        return self._requests.labels(method, route, status)

    def around(self, app: Any, beside: Sequence[str] = ()) -> Any:
        """The ASGI app, counted; the routes that are counted `beside` it are left out."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            begun, status = perf_counter(), 0  # 0: the connection was lost before the answer

            async def watched(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, watched)
            finally:
                path = getattr(scope.get("route"), "path", "other")
                if path not in beside:
                    self.counter(scope["method"], path, status).inc()
                    self._seconds.labels(path).observe(perf_counter() - begun)

        return counted


class CallbackMetrics:
    """The callback writer, a flush at a time: counting each report would cost what group commit has saved."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        reports = Counter(
            "bulksms_reports_total",
            "Delivery reports by what became of them: applied, stale (no news), unknown, failed (not committed).",
            ["outcome"],
            registry=metrics,
        )
        self.applied, self.stale, self.unknown, self.failed = (
            reports.labels(outcome) for outcome in ("applied", "stale", "unknown", "failed")
        )
        self.flush_reports = Histogram(
            "bulksms_flush_reports",
            "Reports that shared one commit: the load sets it, up to CALLBACK_FLUSH.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000),
            registry=metrics,
        )
        self.flush_seconds = Histogram(
            "bulksms_flush_seconds", "One flush: its UPDATE and its commit.", buckets=_LATENCIES, registry=metrics
        )
        self.lag = Histogram(
            "bulksms_callback_lag_seconds",
            "From the carrier's timestamp of the first report in a flush (the one that waited longest) to its commit.",
            buckets=(*_LATENCIES, 30.0, 60.0, 300.0, 3600.0),
            registry=metrics,
        )
        self.waiting = Gauge(
            "bulksms_reports_waiting",
            "Reports taken and not yet committed; at CALLBACK_BUFFER the answer is 503.",
            registry=metrics,
        )


class StateMetrics:
    """What all processes share, as salesdb and Redis have it. Every sales worker tells the same: take the max."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.jobs = Gauge("bulksms_jobs_waiting", "Jobs that are due and not begun.", ["queue"], registry=metrics)
        self.oldest_job = Gauge(
            "bulksms_jobs_oldest_seconds", "How long the first of them has waited.", ["queue"], registry=metrics
        )
        self.outbox_entries = Gauge(
            "bulksms_outbox_entries", "Charges and releases that ds has not settled.", registry=metrics
        )
        self.outbox_credits = Gauge("bulksms_outbox_credits", "Their amount.", registry=metrics)
        self.outbox_oldest = Gauge(
            "bulksms_outbox_oldest_seconds", "How long the oldest of them has waited.", registry=metrics
        )
        self.campaigns = Gauge("bulksms_campaigns", "Campaigns by status.", ["status"], registry=metrics)
        self.messages = Gauge(
            "bulksms_messages",
            "Messages by status, from their campaigns' counters.",
            ["status"],
            registry=metrics,
        )


class SendingMetrics:
    """What the sales worker does."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.batches = Counter(
            "bulksms_carrier_batches_total",
            "Submissions to the carrier by outcome: accepted, busy, unavailable, unknown, refused.",
            ["outcome"],
            registry=metrics,
        )
        self.messages = Counter(
            "bulksms_carrier_messages_total",
            "Messages of accepted batches: accepted, or rejected one by one.",
            ["outcome"],
            registry=metrics,
        )
        self.seconds = Histogram(
            "bulksms_carrier_seconds", "One submission to the carrier.", buckets=_LATENCIES, registry=metrics
        )
        self.relayed = Counter(
            "bulksms_outbox_relayed_total",
            "Outbox entries sent again because ds had not settled them in time.",
            registry=metrics,
        )
        self.expired = Counter(
            "bulksms_messages_expired_total", "Messages made undelivered for want of news.", registry=metrics
        )


class CreditMetrics:
    """What the general worker does."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.entries = Counter(
            "bulksms_entries_total",
            "Outbox entries taken to the ledger: settled, or refused (beyond the credit, or of no workspace).",
            ["outcome"],
            registry=metrics,
        )


class Tally(Collector):
    """A counter for where the client's own would be felt: `value += 1`, read when it is asked for."""

    def __init__(self, name: str, documentation: str, metrics: CollectorRegistry) -> None:
        self.value = 0
        self._name = name
        self._documentation = documentation
        metrics.register(self)

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(self._name, self._documentation, value=self.value)


class WebSocketMetrics:
    """Who watches the credit."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self.clients = Gauge("bulksms_websocket_clients", "Open WebSocket connections.", registry=metrics)
        self.frames = Tally("bulksms_websocket_frames_total", "Credits and their changes sent to them.", metrics)


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
            buckets=_LATENCIES,
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
