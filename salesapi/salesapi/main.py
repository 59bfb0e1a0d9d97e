"""The salesapi process: connections, background tasks and handlers."""

from typing import Any

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware

from bulksms.quotas import Quotas
from bulksms.report_writer import ReportWriter
from common.auth import loopback
from common.auth.failed_attempts import FailedAttempts
from common.auth.middleware import Access, Keyring
from common.auth.rate_limit import Limiter
from common.observability import metrics, tracing
from common.observability.metrics import HttpMetrics
from common.runtime import Runtime, run
from common.settings import Settings
from common.web import audit_endpoint, problems, server
from common.web.concurrency import ConcurrencyLimit
from common.web.health import health_operations
from common.web.openapi import documented_routes
from common.web.refusals import Refusals
from common.web.request_id import RequestIds
from common.web.security_headers import SecurityHeaders
from rpc import security
from rpc.client import RpcClient, RpcTokenError
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_signatures import Signatures
from salesapi.salesapi.campaign_runner import CampaignRunner
from salesapi.salesapi.charges import charge_batcher
from salesapi.salesapi.connection_protocol import protocol_factory
from salesapi.salesapi.endpoints.campaigns import CampaignEndpoints
from salesapi.salesapi.endpoints.create import CreateEndpoint
from salesapi.salesapi.endpoints.erase import EraseEndpoint
from salesapi.salesapi.endpoints.lifecycle import LifecycleEndpoints
from salesapi.salesapi.metrics import CallbackMetrics, on_flush, on_problem
from salesapi.salesapi.operations import DESCRIPTION, operations
from salesapi.salesapi.progress import ProgressPublisher
from salesapi.salesapi.upload_processes import UploadProcesses
from salesapi.salesapi.upload_space import UploadSpace

_WRITERS = 2  # concurrent flushes
_SCANS_AT_ONCE = 2  # reads of many rows


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; reports in the buffer are committed before the end."""
    run("salesapi", settings, _main)


async def _main(runtime: Runtime) -> None:
    settings, host = runtime.settings, runtime.settings.salesapi_host
    loopback.require(host, settings.callback_keys, "/callback", "set CALLBACK_SECRETS, here and for the carrier")
    salesdb = runtime.database("salesdb", settings.salesdb_dsn)
    jobs = runtime.jobs()
    rpc = runtime.need("rpc", RpcClient(settings.rpc_address, settings.rpc_timeout, security.of_client(settings)))
    keyring = Keyring(
        rpc.verify_key,
        host,
        settings.key_cache_ttl,
        origins=settings.dashboard_origins.split(),
        attempts=FailedAttempts(settings.wrong_keys_per_minute, runtime.registry),
    )
    limiter = runtime.own(Limiter.connect(settings.redis_url, settings.rate_limit, settings.rate_burst))
    charges = charge_batcher(jobs)
    progress = ProgressPublisher(salesdb, runtime.broadcast)
    http, callbacks = HttpMetrics(runtime.registry), CallbackMetrics(runtime.registry)
    writer = ReportWriter(
        runtime.pool("salesdb", settings.salesdb_dsn, _WRITERS),
        buffer=settings.callback_buffer,
        flush=settings.callback_flush,
        on_entries=charges.add,
        on_changed=progress.add,
        on_flush=on_flush(http, callbacks),
    )
    callbacks.waiting.set_function(lambda: writer.waiting)
    for number in range(1, _WRITERS + 1):
        runtime.task(f"report writer {number}", writer.run)
    runtime.at_stop(writer.close)
    runtime.task("charges", charges.run)
    runtime.task("campaign progress", progress.run)
    refusals = Refusals(salesdb)
    runtime.task("refused attempts", refusals.run)
    runtime.at_stop(refusals.flush)
    runtime.task_once("key warning", keyring.warn_if_open)
    callback = Callback(writer, Signatures(settings.callback_keys), on_problem(http))
    runner = CampaignRunner(
        salesdb,
        rpc,
        jobs,
        batch_size=settings.send_batch,
        concurrency=settings.send_concurrency,
        on_entries=charges.add,
    )
    quotas = Quotas(settings.quota_drafts, settings.quota_open_contacts, settings.quota_contacts)
    processes = UploadProcesses()
    for number in range(1, settings.upload_processes + 1):
        runtime.task(f"upload process {number}", processes.run)
    create = CreateEndpoint(
        salesdb,
        rpc,
        processes,
        uploads=ConcurrencyLimit(
            "uploads",
            per_key=settings.uploads_per_key,
            total=settings.uploads,
            at_once=settings.upload_processes,
        ),
        space=UploadSpace(settings.uploads_max_bytes),
        max_bytes=settings.upload_max_bytes,
    )
    scans = ConcurrencyLimit(
        "reads of contacts", per_key=settings.scans_per_key, total=settings.scans, at_once=_SCANS_AT_ONCE
    )
    table = operations(
        create,
        LifecycleEndpoints(salesdb, runner, quotas, progress.add),
        CampaignEndpoints(salesdb, scans),
        callback,
        EraseEndpoint(salesdb, settings.default_region, charges.add),
        [
            *health_operations(runtime.dependencies, keyring.is_operator),
            metrics.operation(runtime.registry),
            audit_endpoint.operation(salesdb),
        ],
    )
    app = Starlette(routes=documented_routes("salesapi", DESCRIPTION, table, refusals))
    problems.install(app, misconfigured=RpcTokenError)
    guarded = SecurityHeaders(RequestIds(Access(app, keyring, limiter, public=("/callback",))))
    async with runtime:
        await keyring.protect()
        await server.serve(
            http.around(_for_dashboard(tracing.around(guarded), settings.dashboard_origins), beside=("/callback",)),
            host,
            settings.salesapi_port,
            runtime.stopping,
            request_timeout=settings.request_timeout,
            body_timeout=settings.upload_timeout,
            reuse_port=settings.reuse_port,
            http=protocol_factory(callback),
        )


def _for_dashboard(app: Any, origins: str) -> CORSMiddleware:
    """CORS headers for the dashboard, a page of webapi that calls this service from the browser.

    Outermost middleware: preflight requests carry no key, and a browser hides error responses without these headers.
    """
    return CORSMiddleware(
        app,
        allow_origins=origins.split(),
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
        max_age=3600,
    )
