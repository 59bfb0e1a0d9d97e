"""Count gRPC calls by method and status, and trace them under the caller's span."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from time import perf_counter
from typing import Any, TypeAlias

import grpc

from common.observability import tracing
from rpc.metrics import RpcMetrics
from rpc.tracing import parent_of

_Details = grpc.HandlerCallDetails
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class CallMetrics(grpc.aio.ServerInterceptor):
    """Metrics and tracing of every unary call; the streams of the health service are not counted."""

    def __init__(self, metrics: RpcMetrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        handler = await continuation(details)
        if handler is None or not handler.unary_unary:
            return handler
        call: Any = handler.unary_unary
        method, parent = details.method.removeprefix("/"), parent_of(details)

        async def counted(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            started, status = perf_counter(), grpc.StatusCode.UNKNOWN
            try:
                with tracing.span(method, parent=parent) if parent else nullcontext():
                    reply = await call(request, context)
                status = grpc.StatusCode.OK
                return reply
            except grpc.aio.AbortError:
                status = context.code()
                raise
            finally:
                self._metrics.handled.labels(method, status.name).inc()
                self._metrics.seconds.labels(method).observe(perf_counter() - started)

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)
