"""Puts the salesapi process together: settings, connections, and the handlers that are given them."""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from bulksms.report_writer import ReportWriter
from common.auth import loopback
from common.auth.middleware import Access, Keyring
from common.auth.rate_limit import Limiter
from common.broadcast import KrispBroadcast
from common.database import Database
from common.jobs import JobQueue
from common.observability import heartbeat, logs, metrics, tracing
from common.observability.metrics import CallbackMetrics, HttpMetrics
from common.settings import Settings
from common.web import problems, server
from common.web.health import Dependency, health_operations, watch
from common.web.request_id import RequestIds
from rpc import security
from rpc.client import RpcClient
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_signatures import Signatures
from salesapi.salesapi.campaign_runner import CampaignRunner
from salesapi.salesapi.charges import gathering
from salesapi.salesapi.connection_protocol import protocol_factory
from salesapi.salesapi.endpoints.campaigns import CampaignEndpoints
from salesapi.salesapi.endpoints.create import CreateEndpoint
from salesapi.salesapi.endpoints.lifecycle import LifecycleEndpoints
from salesapi.salesapi.metrics import on_flush, on_problem
from salesapi.salesapi.operations import all_routes, operations
from salesapi.salesapi.progress import ProgressNews

_LAST_FLUSH = 3.0  # seconds for the reports that were taken


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; reports that were taken are committed first."""
    logs.configure(settings.log_level, "salesapi")
    tracing.configure(settings.otel_exporter_otlp_endpoint, "salesapi")
    server.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    host = settings.salesapi_host
    loopback.require(host, settings.callback_keys, "/callback", "set CALLBACK_SECRETS, here and for the carrier")
    salesdb = Database("salesdb", settings.salesdb_dsn)
    jobs = JobQueue.connect(settings.redis_url)
    rpc = RpcClient(settings.rpc_address, settings.rpc_timeout, security.of_client(settings))
    keyring = Keyring(rpc.verify_key, host, settings.key_cache)
    limiter = Limiter.connect(settings.redis_url, settings.rate_limit, settings.rate_burst)
    charges = gathering(jobs)
    broadcast = KrispBroadcast.connect(settings.redis_url)
    progress = ProgressNews(salesdb, broadcast)
    registry = metrics.registry()
    http, callbacks = HttpMetrics(registry), CallbackMetrics(registry)
    writer = ReportWriter(
        salesdb,
        buffer=settings.callback_buffer,
        flush=settings.callback_flush,
        on_entries=charges.add,
        on_moved=progress.add,
        on_flush=on_flush(http, callbacks),
    )
    callbacks.waiting.set_function(lambda: writer.waiting)
    callback = Callback(writer, Signatures(settings.callback_keys), on_problem(http))
    runner = CampaignRunner(
        salesdb, rpc, jobs, batch=settings.send_batch, lanes=settings.send_lanes, on_entries=charges.add
    )
    create = CreateEndpoint(
        salesdb,
        rpc,
        region=settings.default_region,
        price=settings.sms_price,
        max_bytes=settings.upload_max_bytes,
    )
    parts = {
        "salesdb": Dependency(salesdb.address, salesdb.check),
        "redis": Dependency(jobs.address, jobs.check),
        "rpc": Dependency(settings.rpc_address, rpc.check),
    }
    table = operations(
        create,
        LifecycleEndpoints(salesdb, runner, progress.add),
        CampaignEndpoints(salesdb),
        callback,
        [*health_operations(parts), metrics.operation(registry)],
    )
    app = Starlette(routes=all_routes(table))
    problems.install(app)
    await salesdb.open(wait=False)
    await keyring.protect()
    writer.start()
    tasks = [
        *watch(parts),
        asyncio.create_task(charges.run()),
        asyncio.create_task(progress.run()),
        asyncio.create_task(heartbeat.beat("salesapi", broadcast, {"salesdb": salesdb.check, "redis": jobs.check})),
    ]
    guarded = RequestIds(Access(app, keyring, limiter, public=("/callback",)))
    await server.serve(
        http.around(_for_dashboard(tracing.around(guarded), settings.dashboard_origins), beside=("/callback",)),
        host,
        settings.salesapi_port,
        request_timeout=settings.request_timeout,
        reuse_port=settings.reuse_port,
        http=protocol_factory(callback),
    )
    with suppress(TimeoutError):  # of a database that does not answer
        async with asyncio.timeout(_LAST_FLUSH):
            await writer.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(rpc.close(), limiter.close(), broadcast.close(), jobs.close(), salesdb.close())


def _for_dashboard(app: Any, origins: str) -> CORSMiddleware:
    """Lets the dashboard, a page of webapi, call this service from the browser.

    It stands before all else, since a browser asks without a key whether it may ask, and shows a page no refusal that
    lacks its headers.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins.split(),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        max_age=3600,
    )
