"""What the metrics of all processes are made with: a registry, `GET /metrics`, and the metrics of HTTP requests.

The metrics of a domain stand beside its code, in a `metrics.py`: a class for each group, which a process makes on its
registry and hands to the code that counts. Names follow Prometheus' conventions.
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

# Reads, at a scrape, what lives elsewhere, such as the length of a queue.
Refresh = Callable[[], Awaitable[None]]

_REFRESH_TIMEOUT = 2.0  # seconds; without its databases a process still shows its counters
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def registry() -> CollectorRegistry:
    """A registry with what every process shows: `process_cpu_seconds_total`, memory, open files, start time."""
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
    """`GET /metrics`, for a process that has no table of operations."""
    return operation(metrics, refreshes).route


def operation(metrics: CollectorRegistry, refreshes: Sequence[Refresh] = ()) -> Operation:
    """`GET /metrics`, in Prometheus' text format."""

    async def answer(request: Request) -> Response:
        await asyncio.gather(*(_refreshed(refresh) for refresh in refreshes))
        return Response(_text(metrics), media_type=CONTENT_TYPE_LATEST)

    media_type = Text("text/plain")
    return Operation("GET", "/metrics", answer, "What does it count? For Prometheus", {200: media_type}, is_open=True)


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
            buckets=LATENCY_BUCKETS,
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


class UnlockedCounter(Collector):
    """A counter without the lock of Prometheus' own, for hot paths of one thread: `value += 1`."""

    def __init__(self, name: str, documentation: str, metrics: CollectorRegistry) -> None:
        self.value = 0
        self._name = name
        self._documentation = documentation
        metrics.register(self)

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(self._name, self._documentation, value=self.value)
