"""Prometheus metrics of all processes: the registry, `GET /metrics`, and the metrics of HTTP requests.

The metrics of a domain are in its own `metrics.py`: a class for each group, which a process creates on its registry and
passes to the code that counts. Names follow Prometheus' conventions.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client import generate_latest as _text
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.observability.counters import failures
from common.web.operations import Operation, Text

log = structlog.get_logger()

# Updates gauges at a scrape from elsewhere, such as the length of a queue.
Refresh = Callable[[], Awaitable[None]]

_REFRESH_TIMEOUT = 2.0  # seconds; a process shows its counters even if its databases do not answer
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def registry() -> CollectorRegistry:
    """Create a registry with the metrics that every process has: CPU, memory, open files, start time, failures."""
    metrics = CollectorRegistry()
    ProcessCollector(registry=metrics)
    metrics.register(_Failures())
    return metrics


class _Failures(Collector):
    """Failures from which this process has recovered, see `counters.failures`."""

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(
            "bulksms_failures_total",
            "Failures of background tasks, observers and jobs, and data in Redis that cannot be read.",
            labels=["kind", "name"],
        )
        for labels, count in failures.items():
            family.add_metric(labels, count)
        yield family


def route(metrics: CollectorRegistry, refreshes: Sequence[Refresh] = ()) -> Route:
    """The route `GET /metrics`, for a process without an operation table."""
    return operation(metrics, refreshes).route


def operation(metrics: CollectorRegistry, refreshes: Sequence[Refresh] = ()) -> Operation:
    """The operation `GET /metrics`, in Prometheus' text format."""

    async def scrape(request: Request) -> Response:
        await asyncio.gather(*(_refreshed(refresh) for refresh in refreshes))
        return Response(_text(metrics), media_type=CONTENT_TYPE_LATEST)

    media_type = Text("text/plain")
    return Operation("GET", "/metrics", scrape, "Metrics for Prometheus", {200: media_type}, is_open=True)


async def _refreshed(refresh: Refresh) -> None:
    try:
        async with asyncio.timeout(_REFRESH_TIMEOUT):
            await refresh()
    except Exception as error:
        log.warning("some metrics could not be updated", reason=str(error) or type(error).__name__)


class HttpMetrics:
    """Requests of a web service by route; not by path, whose number of values is unlimited."""

    def __init__(self, metrics: CollectorRegistry) -> None:
        self._requests = Counter(
            "http_requests_total",
            "HTTP requests answered. POST /callback is counted by the flush that commits it.",
            ["method", "route", "status"],
            registry=metrics,
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "From a request to the end of its response, without POST /callback: see bulksms_callback_lag_seconds.",
            ["route"],
            buckets=LATENCY_BUCKETS,
            registry=metrics,
        )

    def counter(self, method: str, route: str, status: int) -> Counter:
        """The counter of one kind of request, for requests that do not pass through the app."""
        return self._requests.labels(method, route, status)

    def around(self, app: Any, beside: Sequence[str] = ()) -> Any:
        """Wrap an ASGI app to count its requests, except those of the routes `beside`, which are counted elsewhere."""

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            started_at, status = perf_counter(), 0  # 0: the connection was lost before the response

            async def send_and_note_status(message: Any) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, send_and_note_status)
            finally:
                path = getattr(scope.get("route"), "path", "other")
                if path not in beside:
                    self.counter(scope["method"], path, status).inc()
                    self._seconds.labels(path).observe(perf_counter() - started_at)

        return counted


class UnlockedCounter(Collector):
    """A counter without a lock, unlike Prometheus' own, for hot paths of one thread: `value += 1`."""

    def __init__(self, name: str, documentation: str, metrics: CollectorRegistry) -> None:
        self.value = 0
        self._name = name
        self._documentation = documentation
        metrics.register(self)

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(self._name, self._documentation, value=self.value)
