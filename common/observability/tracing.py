"""Traces, sent to the collector at OTEL_EXPORTER_OTLP_ENDPOINT; without it each call here is a no-op.

The id of a campaign's trace is the campaign id: both have 128 bits. So all work for a campaign joins its trace, in any
process and after any crash, without stored state.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol
from uuid import UUID


class Tracer(Protocol):
    """Creates spans; the methods are those of the module's functions."""

    def root(self, name: str, campaign: UUID) -> AbstractContextManager[None]: ...

    def span(
        self, name: str, *, parent: str | None, campaigns: Iterable[UUID], seconds: float, attributes: dict[str, Any]
    ) -> AbstractContextManager[None]: ...

    def traceparent(self) -> str | None: ...

    def note(self, name: str, attributes: dict[str, Any]) -> None: ...


_tracer: Tracer | None = None


def configure(endpoint: str, service: str) -> None:
    """Send the process's traces to `endpoint` (OTLP over HTTP); if it is empty, disable tracing."""
    global _tracer
    if endpoint:
        try:
            from common.observability.otel import OtelTracer
        except ImportError as error:
            hint = (
                "install its packages with pip install -r requirements-image.txt, or unset OTEL_EXPORTER_OTLP_ENDPOINT"
            )
            raise SystemExit(f"tracing is configured but not installed ({error}): {hint}") from None
        _tracer = OtelTracer(endpoint, service)


def enabled() -> bool:
    """Whether traces are sent: skip the work for attributes if not."""
    return _tracer is not None


def root(name: str, campaign: UUID) -> AbstractContextManager[None]:
    """Open the root span of the campaign's trace; it is sent only if the block ends without an error."""
    return _tracer.root(name, campaign) if _tracer else nullcontext()


def span(
    name: str,
    *,
    parent: str | None = None,
    campaigns: Iterable[UUID] = (),
    seconds: float = 0.0,
    **attributes: Any,
) -> AbstractContextManager[None]:
    """Open a span while the block runs, which started `seconds` ago.

    Its parent is `parent` (a W3C traceparent), else the current span, else the trace of the first of `campaigns`, with
    links to the traces of the others.
    """
    if _tracer is None:
        return nullcontext()
    return _tracer.span(name, parent=parent, campaigns=campaigns, seconds=seconds, attributes=attributes)


def note(name: str = "", **attributes: Any) -> None:
    """Add attributes to the current span, and rename it if `name` is given."""
    if _tracer is not None:
        _tracer.note(name, attributes)


def traceparent() -> str | None:
    """The current span as a W3C traceparent, for another process; None if there is none."""
    return _tracer.traceparent() if _tracer else None


def around(app: Any) -> Any:
    """Wrap an ASGI app in a span for each HTTP request, except those for health and metrics."""
    return _Traced(app) if _tracer else app


class _Traced:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in ("/metrics", "/health", "/ready"):
            await self._app(scope, receive, send)
            return

        async def send_and_note_status(message: Any) -> None:
            if message["type"] == "http.response.start":
                note(**{"http.response.status_code": message["status"]})
            await send(message)

        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        method, path = scope["method"], scope["path"]
        with span(method, parent=parent or None, **{"http.request.method": method, "url.path": path}):
            await self._app(scope, receive, send_and_note_status)
            note(f"{method} {getattr(scope.get('route'), 'path', 'other')}")
