"""The HTTP server for `/metrics`, `/health` and `/ready` of rpc and the workers, which serve no other HTTP."""

import asyncio
import socket
from collections.abc import Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from common.observability import metrics
from common.observability.metrics import Refresh
from common.web import problems
from common.web.health import Dependency, health_routes
from common.web.security_headers import SecurityHeaders
from common.web.server import serve_on

log = structlog.get_logger()

_REQUEST_TIMEOUT = 5.0  # seconds to receive a request


async def serve(
    host: str,
    port: int,
    registry: CollectorRegistry,
    dependencies: Mapping[str, Dependency],
    refreshes: Sequence[Refresh] = (),
) -> None:
    """Serve until cancelled; return at once on port 0, or where the port is taken: the process runs without."""
    if not port:
        return
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        log.warning("metrics are not served", address=f"{host}:{port}", reason=str(error))
        return
    app = Starlette(routes=[metrics.route(registry, refreshes), *health_routes(dependencies)])
    problems.install(app)
    with listener:
        await serve_on(listener, SecurityHeaders(app), asyncio.Event(), request_timeout=_REQUEST_TIMEOUT)
