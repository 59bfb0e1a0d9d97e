"""A small HTTP port beside a process that serves no HTTP: `/metrics`, `/health` and `/ready` of rpc and the workers."""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from common.observability import metrics
from common.observability.metrics import Refresh
from common.web import problems
from common.web.health import Dependency, health_routes
from common.web.protocol import BoundedHttp

log = structlog.get_logger()

_PATIENCE = 5.0  # seconds for a request to come in


class _Beside(uvicorn.Server):
    """A server that leaves the signals to the process it is a part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    host: str,
    port: int,
    registry: CollectorRegistry,
    parts: Mapping[str, Dependency],
    refreshes: Sequence[Refresh] = (),
) -> None:
    """Serve until cancelled; not at all on port 0, or where something else listens: the process does without."""
    if not port:
        return
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        log.warning("metrics are not served", address=f"{host}:{port}", reason=str(error))
        return
    app = Starlette(routes=[metrics.route(registry, refreshes), *health_routes(parts)])
    problems.install(app)
    config = uvicorn.Config(
        app,
        http=partial(BoundedHttp, request_timeout=_PATIENCE),  # type: ignore[arg-type]  # it may be any callable
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    with listener:
        await _Beside(config).serve([listener])
