"""Traces, where OTEL_EXPORTER_OTLP_ENDPOINT says who takes them; without it each call here is a no-op.

A campaign's trace has the campaign's id: both have 128 bits. So whatever is done for a campaign joins its trace, in any
process and after any crash, with nothing to be remembered for it.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol
from uuid import UUID


class Tracer(Protocol):
    """Makes spans; the functions of this module say what they mean."""

    def root(self, name: str, campaign: UUID) -> AbstractContextManager[None]: ...

    def span(
        self, name: str, *, parent: str | None, campaigns: Iterable[UUID], seconds: float, attributes: dict[str, Any]
    ) -> AbstractContextManager[None]: ...

    def traceparent(self) -> str | None: ...

    def note(self, name: str, attributes: dict[str, Any]) -> None: ...


_tracer: Tracer | None = None


def configure(endpoint: str, service: str) -> None:
    """Send the process's traces to `endpoint` (OTLP over HTTP); nowhere if it is empty."""
    global _tracer
    if endpoint:
        try:
            from common.observability.otel import OtelTracer
        except ImportError as error:
            raise SystemExit(f"traces are wanted: pip install -r requirements-image.txt ({error})") from None
        _tracer = OtelTracer(endpoint, service)


def enabled() -> bool:
    """Whether anyone takes traces: for what would cost something to find out."""
    return _tracer is not None


def root(name: str, campaign: UUID) -> AbstractContextManager[None]:
    """The one span that begins the campaign's trace; it is kept only if the block ends without an error."""
    return _tracer.root(name, campaign) if _tracer else nullcontext()


def span(
    name: str,
    *,
    parent: str | None = None,
    campaigns: Iterable[UUID] = (),
    seconds: float = 0.0,
    **attributes: Any,
) -> AbstractContextManager[None]:
    """A span while the block runs, begun `seconds` before.

    It goes under `parent` (a W3C traceparent), else under the span that is open, else into the trace of the first of
    `campaigns`, linked to those of the others.
    """
    if _tracer is None:
        return nullcontext()
    return _tracer.span(name, parent=parent, campaigns=campaigns, seconds=seconds, attributes=attributes)


def note(name: str = "", **attributes: Any) -> None:
    """Add attributes to the span that is open, and name it anew."""
    if _tracer is not None:
        _tracer.note(name, attributes)


def traceparent() -> str | None:
    """The open span as W3C Trace Context tells it to another process; None if there is none."""
    return _tracer.traceparent() if _tracer else None


def around(app: Any) -> Any:
    """The ASGI app with a span for each HTTP request, but for those that ask how the process is."""
    return _Traced(app) if _tracer else app


class _Traced:
    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in ("/metrics", "/health", "/ready"):
            await self._app(scope, receive, send)
            return

        async def watched(message: Any) -> None:
            if message["type"] == "http.response.start":
                note(**{"http.response.status_code": message["status"]})
            await send(message)

        parent = dict(scope["headers"]).get(b"traceparent", b"").decode("latin-1")
        method, path = scope["method"], scope["path"]
        with span(method, parent=parent or None, **{"http.request.method": method, "url.path": path}):
            await self._app(scope, receive, watched)
            note(f"{method} {getattr(scope.get('route'), 'path', 'other')}")
