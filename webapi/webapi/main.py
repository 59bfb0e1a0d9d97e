"""Puts the webapi process together: settings, connections, and the handlers that are given them."""

import asyncio
from functools import partial

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from common.auth.middleware import Access, Keyring
from common.auth.rate_limit import Limiter
from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import JobQueue
from common.observability import heartbeat, logs, metrics, tracing
from common.observability.metrics import HttpMetrics, WebSocketMetrics
from common.settings import Settings
from common.web import problems, server
from common.web.health import Dependency, health_operations, watch
from common.web.request_id import RequestIds
from rpc import security
from rpc.client import RpcClient
from webapi.webapi import campaign_events, pages
from webapi.webapi.credit_events import true_up
from webapi.webapi.endpoints import Endpoints
from webapi.webapi.operations import all_routes, operations
from webapi.webapi.system_status import SystemView
from webapi.webapi.websocket import CreditSocket, ReadyFrames
from workspace import keys


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    logs.configure(settings.log_level, "webapi")
    tracing.configure(settings.otel_exporter_otlp_endpoint, "webapi")
    server.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    ds = Database("ds", settings.ds_dsn)
    jobs = JobQueue.connect(settings.redis_url)
    broadcast = KrispBroadcast.connect(settings.redis_url)
    rpc = RpcClient(settings.rpc_address, settings.rpc_timeout, security.of_client(settings))
    keyring = Keyring(partial(keys.verify, ds), settings.webapi_host, settings.key_cache)
    limiter = Limiter.connect(settings.redis_url, settings.rate_limit, settings.rate_burst)
    parts = {
        "ds": Dependency(ds.address, ds.check),
        "redis": Dependency(jobs.address, jobs.check),
        "rpc": Dependency(settings.rpc_address, rpc.check),
    }
    system = SystemView()
    registry = metrics.registry()
    shared = [*health_operations(parts), metrics.operation(registry)]
    app = Starlette(
        routes=[
            *all_routes(operations(Endpoints(ds, jobs, rpc), system, shared)),
            WebSocketRoute("/ws", CreditSocket(ds, broadcast, rpc, keyring, WebSocketMetrics(registry))),
            *pages.routes(settings.salesapi_url),
        ]
    )
    problems.install(app)
    await ds.open(wait=False)
    await keyring.protect()
    tasks = [
        *watch(parts),
        asyncio.create_task(broadcast.run()),
        asyncio.create_task(true_up(ds, broadcast)),
        asyncio.create_task(campaign_events.true_up(rpc, broadcast)),
        asyncio.create_task(system.listen(broadcast)),
        asyncio.create_task(heartbeat.beat("webapi", broadcast, {"ds": ds.check, "redis": jobs.check})),
    ]
    guarded = RequestIds(Access(app, keyring, limiter, public=pages.PUBLIC, strict=("/topup",)))
    await server.serve(
        HttpMetrics(registry).around(tracing.around(guarded)),
        settings.webapi_host,
        settings.webapi_port,
        request_timeout=settings.request_timeout,
        reuse_port=settings.reuse_port,
        ws=ReadyFrames,
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(rpc.close(), limiter.close(), broadcast.close(), jobs.close(), ds.close())
