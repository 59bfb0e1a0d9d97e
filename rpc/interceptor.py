"""Counts the gRPC calls that the node answers, by method and status, and traces them under their caller's span."""

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from time import perf_counter
from typing import Any, TypeAlias

import grpc

from common.observability import tracing
from common.observability.metrics import RpcMetrics
from rpc.tracing import parent_of

_Details = grpc.HandlerCallDetails
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


class CallMetrics(grpc.aio.ServerInterceptor):
    """An interceptor around every unary call; the health service's watches are streams, and not counted."""

    def __init__(self, metrics: RpcMetrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Callable[[_Details], Awaitable[_Handler]], details: _Details
    ) -> _Handler:
        handler = await continuation(details)
        if handler is None or not handler.unary_unary:
            return handler
        answer: Any = handler.unary_unary
        method, parent = details.method.removeprefix("/"), parent_of(details)

        async def counted(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            begun, status = perf_counter(), grpc.StatusCode.UNKNOWN
            try:
                with tracing.span(method, parent=parent) if parent else nullcontext():
                    reply = await answer(request, context)
                status = grpc.StatusCode.OK
                return reply
            except grpc.aio.AbortError:
                status = context.code()
                raise
            finally:
                self._metrics.handled.labels(method, status.name).inc()
                self._metrics.seconds.labels(method).observe(perf_counter() - begun)

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)
