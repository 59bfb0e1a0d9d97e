"""The tracer of `common.observability.tracing` on OpenTelemetry; imported only if tracing is configured."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_TIMEOUT = 2  # seconds for the collector; a process still stops in time if it does not answer
_MAX_LINKS = 20
_NONE: list[UUID | None] = [None]

_root_of: ContextVar[UUID | None] = ContextVar("root_of", default=None)


def _root_context(campaign: UUID) -> SpanContext:
    """The root span of a campaign's trace: the trace id is the campaign id, the span id is its random half."""
    return SpanContext(campaign.int, campaign.int & (2**64 - 1), is_remote=True, trace_flags=TraceFlags(1))


class _Ids(RandomIdGenerator):
    """Random ids, except for the root span of a campaign."""

    def generate_trace_id(self) -> int:
        campaign = _root_of.get()
        return _root_context(campaign).trace_id if campaign else super().generate_trace_id()

    def generate_span_id(self) -> int:
        campaign = _root_of.get()
        return _root_context(campaign).span_id if campaign else super().generate_span_id()


class OtelTracer:
    """A tracer that exports spans to `endpoint` in batches from a background thread, and the last ones at exit."""

    def __init__(self, endpoint: str, service: str) -> None:
        provider = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=_Ids())
        exporter = OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_TIMEOUT)
        provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000))
        self._tracer = provider.get_tracer("bulksms")
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def root(self, name: str, campaign: UUID) -> Iterator[None]:
        request = trace.get_current_span().get_span_context()
        links = [Link(request)] if request.is_valid else []
        token = _root_of.set(campaign)
        try:
            span = self._tracer.start_span(name, context.Context(), links=links, attributes=_campaign(campaign))
        finally:
            _root_of.reset(token)
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield
        span.end()

    @contextmanager
    def span(
        self, name: str, *, parent: str | None, campaigns: Iterable[UUID], seconds: float, attributes: dict[str, Any]
    ) -> Iterator[None]:
        first, *others = [*dict.fromkeys(campaigns)][: _MAX_LINKS + 1] or _NONE
        parent_context: context.Context | None = None
        if parent:
            parent_context = self._propagator.extract({"traceparent": parent})
        elif first and not trace.get_current_span().get_span_context().is_valid:
            parent_context = trace.set_span_in_context(NonRecordingSpan(_root_context(first)))
        with self._tracer.start_as_current_span(
            name,
            parent_context,
            links=[Link(_root_context(other)) for other in others if other],
            attributes={**attributes, **(_campaign(first) if first else {})},
            start_time=time.time_ns() - int(seconds * 1e9),
        ):
            yield

    def traceparent(self) -> str | None:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent")

    def note(self, name: str, attributes: dict[str, Any]) -> None:
        span = trace.get_current_span()
        span.set_attributes(attributes)
        if name:
            span.update_name(name)


def _campaign(campaign: UUID) -> dict[str, str]:
    return {"bulksms.campaign": str(campaign)}
