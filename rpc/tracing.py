"""Propagate the current span in the metadata of gRPC calls (W3C Trace Context)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from common.observability import tracing

KEY = "traceparent"


class _Traced(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[[Any, Any], Awaitable[Any]], details: grpc.aio.ClientCallDetails, request: Any
    ) -> Any:
        if traceparent := tracing.traceparent():
            details = grpc.aio.ClientCallDetails(
                details.method,
                details.timeout,
                grpc.aio.Metadata(*(details.metadata or ()), (KEY, traceparent)),
                details.credentials,
                details.wait_for_ready,
            )
        return await continuation(details, request)


def client_interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """The interceptors of a channel; none if tracing is off."""
    return [_Traced()] if tracing.enabled() else []


def parent_of(details: grpc.HandlerCallDetails) -> str | None:
    """The caller's span from the metadata of a call."""
    traceparent = next((value for key, value in details.invocation_metadata or () if key == KEY), None)
    return traceparent if isinstance(traceparent, str) else None
