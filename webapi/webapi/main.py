"""Puts the webapi process together: connections, background tasks and handlers."""

from functools import partial

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from common.auth.failed_attempts import FailedAttempts
from common.auth.middleware import Access, Keyring
from common.auth.rate_limit import Limiter
from common.observability import metrics, tracing
from common.observability.heartbeat import Heartbeat
from common.observability.metrics import HttpMetrics
from common.runtime import Runtime, run
from common.settings import Settings
from common.topology import CAMPAIGN_CHANNEL, CREDIT_CHANNEL, HEARTBEAT_CHANNEL
from common.web import audit_endpoint, problems, server
from common.web.health import health_operations
from common.web.openapi import documented_routes
from common.web.refusals import Refusals
from common.web.request_id import RequestIds
from common.web.security_headers import SecurityHeaders
from rpc import security
from rpc.client import Progress, RpcClient, RpcTokenError
from webapi.webapi import campaign_events, credit_events, pages
from webapi.webapi.credit_events import CreditView
from webapi.webapi.credit_sender import SharedFrameWebSocket
from webapi.webapi.endpoints import Endpoints
from webapi.webapi.metrics import WebSocketMetrics
from webapi.webapi.operations import DESCRIPTION, operations
from webapi.webapi.system_status import SystemMonitor
from webapi.webapi.websocket import CreditSocket
from webapi.webapi.websocket_limits import SocketLimits
from workspace import keys


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    run("webapi", settings, _main)


async def _main(runtime: Runtime) -> None:
    settings = runtime.settings
    ds = runtime.database("ds", settings.ds_dsn)
    jobs = runtime.jobs()
    rpc = runtime.need("rpc", RpcClient(settings.rpc_address, settings.rpc_timeout, security.of_client(settings)))
    keyring = Keyring(
        partial(keys.verify, ds),
        settings.webapi_host,
        settings.key_cache_ttl,
        origins=settings.dashboard_origins.split(),
        attempts=FailedAttempts(settings.wrong_keys_per_minute, runtime.registry),
    )
    limiter = runtime.own(Limiter.connect(settings.redis_url, settings.rate_limit, settings.rate_burst))
    broadcast, system = runtime.broadcast, SystemMonitor()
    broadcast.register_type(CREDIT_CHANNEL, CreditView)
    broadcast.register_type(CAMPAIGN_CHANNEL, Progress)
    broadcast.register_type(HEARTBEAT_CHANNEL, Heartbeat)
    runtime.task("pub/sub", broadcast.run)
    runtime.task("credit check", partial(credit_events.reconcile, ds, broadcast))
    runtime.task("campaign check", partial(campaign_events.reconcile, rpc, broadcast))
    runtime.task("system status", partial(system.run, broadcast))
    refusals = Refusals(ds)
    runtime.task("refused attempts", refusals.run)
    runtime.at_stop(refusals.flush)
    runtime.task_once("key warning", keyring.warn_if_open)
    shared = [
        *health_operations(runtime.dependencies, keyring.is_operator),
        metrics.operation(runtime.registry),
        audit_endpoint.operation(ds),
    ]
    limits = SocketLimits(settings.websockets_per_key, settings.websockets_max)
    socket = CreditSocket(ds, broadcast, rpc, keyring, limiter, limits, WebSocketMetrics(runtime.registry))
    app = Starlette(
        routes=[
            *documented_routes("webapi", DESCRIPTION, operations(Endpoints(ds, jobs, rpc), system, shared), refusals),
            WebSocketRoute("/ws", socket),
            *pages.routes(settings.salesapi_url),
        ]
    )
    problems.install(app, misconfigured=RpcTokenError)
    guarded = SecurityHeaders(RequestIds(Access(app, keyring, limiter, public=pages.PUBLIC, strict=("/topup",))))
    async with runtime:
        await keyring.protect()
        await server.serve(
            HttpMetrics(runtime.registry).around(tracing.around(guarded)),
            settings.webapi_host,
            settings.webapi_port,
            runtime.stopping,
            request_timeout=settings.request_timeout,
            reuse_port=settings.reuse_port,
            ws=SharedFrameWebSocket,
        )
