"""gRPC calls carry the span in which they are made, in the metadata that W3C Trace Context names."""

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
    """For a channel; none where nothing is traced."""
    return [_Traced()] if tracing.enabled() else []


def parent_of(details: grpc.HandlerCallDetails) -> str | None:
    """The span in which a call was made, as the server sees it."""
    found = next((value for key, value in details.invocation_metadata or () if key == KEY), None)
    return found if isinstance(found, str) else None
