"""The gRPC server: synchronous calls of other services, served by the domain that owns the data."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bulksms import campaigns
from bulksms.campaigns import CampaignNotFoundError, progress
from common.auth.failed_attempts import FailedAttempts
from common.auth.loopback import is_loopback, require
from common.database import UNAVAILABLE, Database
from common.money import MoneyError, parse_credits
from common.runtime import Runtime, run
from common.settings import Settings
from rpc.audit_task import keep_auditing
from rpc.interceptor import CallMetrics
from rpc.metrics import AuditMetrics, RpcMetrics
from rpc.security import TokenInterceptor, server_credentials, server_options
from rpc.stubs import bulksms_pb2, bulksms_pb2_grpc, workspace_credit_pb2, workspace_credit_pb2_grpc
from workspace import credit, keys
from workspace.credit import (
    Credit,
    InsufficientCreditError,
    ReservationConflictError,
    WorkspaceNotFoundError,
)

log = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]
Reply = TypeVar("Reply")

_WORKSPACE_CREDIT = "workspace_credit.WorkspaceCredit"
_BULKSMS = "bulksms.BulkSms"


class WorkspaceCreditServicer(workspace_credit_pb2_grpc.WorkspaceCreditServicer):
    """The service for credit and API keys, backed by ds."""

    def __init__(self, ds: Database) -> None:
        self._ds = ds

    async def GetWorkspaceCredit(
        self, request: workspace_credit_pb2.GetWorkspaceCreditRequest, context: Context
    ) -> workspace_credit_pb2.Credit:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        return _credit(await _call(context, lambda: credit.get(self._ds, workspace_id)))

    async def ReserveCredit(
        self, request: workspace_credit_pb2.ReserveCreditRequest, context: Context
    ) -> workspace_credit_pb2.Credit:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        campaign_id = await _uuid(context, "campaign_id", request.campaign_id)
        try:
            amount = parse_credits(request.amount)
        except MoneyError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"amount: {error}")
        if amount <= 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "amount: must be above 0")
        now = await _call(context, lambda: credit.reserve(self._ds, workspace_id, campaign_id, amount))
        log.info("credit reserved", workspace_id=str(workspace_id), campaign_id=str(campaign_id), amount=str(amount))
        return _credit(now)

    async def ReleaseCredit(
        self, request: workspace_credit_pb2.ReleaseCreditRequest, context: Context
    ) -> workspace_credit_pb2.Credit:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        campaign_id = await _uuid(context, "campaign_id", request.campaign_id)
        return _credit(await _call(context, lambda: credit.release(self._ds, workspace_id, campaign_id)))

    async def VerifyKey(
        self, request: workspace_credit_pb2.VerifyKeyRequest, context: Context
    ) -> workspace_credit_pb2.Principal:
        principal = await _call(context, lambda: keys.verify(self._ds, request.key))
        if principal is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "the API key is unknown or revoked")
            raise AssertionError("abort() raises")
        return workspace_credit_pb2.Principal(
            key_id=str(principal.key_id or ""), workspace_id=str(principal.workspace_id or "")
        )


class BulkSmsServicer(bulksms_pb2_grpc.BulkSmsServicer):
    """The service for campaigns, backed by salesdb."""

    def __init__(self, salesdb: Database) -> None:
        self._salesdb = salesdb

    async def GetProgress(self, request: bulksms_pb2.GetProgressRequest, context: Context) -> bulksms_pb2.Progress:
        bulksms_id = await _uuid(context, "bulksms_id", request.bulksms_id)
        return bulksms_pb2.Progress(**progress(await _call(context, lambda: campaigns.get(self._salesdb, bulksms_id))))

    async def ListProgress(
        self, request: bulksms_pb2.ListProgressRequest, context: Context
    ) -> bulksms_pb2.ListProgressReply:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        limit = request.limit or 20
        if not 1 <= limit <= 100:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "limit: must be 1 to 100")
        page = await _call(context, lambda: campaigns.page(self._salesdb, workspace_id, None, limit))
        return bulksms_pb2.ListProgressReply(
            campaigns=[bulksms_pb2.Progress(**progress(campaign)) for campaign in page]
        )


async def _call(context: Context, operation: Callable[[], Awaitable[Reply]]) -> Reply:
    """Call the domain; its errors become gRPC statuses."""
    try:
        return await operation()
    except (WorkspaceNotFoundError, CampaignNotFoundError) as error:
        await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
    except InsufficientCreditError as error:
        context.set_trailing_metadata((("needed", str(error.needed)), ("available", str(error.available))))
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))
    except ReservationConflictError as error:
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, str(error))
    except UNAVAILABLE as error:
        log.warning("the database does not answer", reason=str(error) or type(error).__name__)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "the database does not answer")
    raise AssertionError("abort() raises")


async def _uuid(context: Context, field: str, value: str) -> UUID:
    try:
        return UUID(value)
    except ValueError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {value!r} is not a valid UUID")
    raise AssertionError("abort() raises")


def _credit(now: Credit) -> workspace_credit_pb2.Credit:
    return workspace_credit_pb2.Credit(
        workspace_id=str(now.workspace_id),
        name=now.name,
        credit=str(now.credit),
        reserved=str(now.reserved),
        available=str(now.available),
        version=now.version,
    )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    run("rpc", settings, _main, use_uvloop=False)  # grpc.aio supports only asyncio's own loop


async def _main(runtime: Runtime) -> None:
    settings = runtime.settings
    require(settings.rpc_host, settings.rpc_token, "rpc", "set RPC_TOKEN, here and for its clients")
    ds, salesdb = runtime.database("ds", settings.ds_dsn), runtime.database("salesdb", settings.salesdb_dsn)
    attempts = FailedAttempts(settings.wrong_keys_per_minute, runtime.registry, "RPC_TOKEN")
    server = grpc.aio.server(
        interceptors=[CallMetrics(RpcMetrics(runtime.registry)), TokenInterceptor(settings.rpc_token, attempts)],
        options=server_options(settings.rpc_idle_timeout),
    )
    workspace_credit_pb2_grpc.add_WorkspaceCreditServicer_to_server(WorkspaceCreditServicer(ds), server)
    bulksms_pb2_grpc.add_BulkSmsServicer_to_server(BulkSmsServicer(salesdb), server)
    statuses = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(statuses, server)
    runtime.task("health of credit", partial(_watch_database, statuses, _WORKSPACE_CREDIT, ds))
    runtime.task("health of campaigns", partial(_watch_database, statuses, _BULKSMS, salesdb))
    audit_metrics = AuditMetrics(runtime.registry)
    runtime.task("audit", partial(keep_auditing, ds, salesdb, audit_metrics, settings.audit_period))
    runtime.serve_metrics(settings.rpc_metrics_port)
    async with runtime:
        _listen(server, settings)
        await server.start()
        await runtime.stopping.wait()
        await statuses.enter_graceful_shutdown()
        await server.stop(grace=5)


def _listen(server: grpc.aio.Server, settings: Settings) -> None:
    """Open the port, with TLS where certificates are set. Raises RuntimeError if it is in use."""
    credentials = server_credentials(settings)
    if credentials:
        server.add_secure_port(settings.rpc_address, credentials)
    else:
        server.add_insecure_port(settings.rpc_address)
    log.info("rpc listening", address=settings.rpc_address, tls=credentials is not None)
    if not credentials and not is_loopback(settings.rpc_host):
        log.warning(
            "RPC_TOKEN is sent unencrypted over the network: set RPC_CERT and RPC_KEY here, and RPC_CA for the clients"
        )


async def _watch_database(
    statuses: health.aio.HealthServicer, service: str, database: Database, period: float = 2.0
) -> None:
    """Check the database of a service every `period` seconds and set the status of the service."""
    is_available = True
    while True:
        try:
            async with asyncio.timeout(period):
                await database.check()
        except Exception as error:
            if is_available:
                log.warning(f"{database.name} does not answer", reason=str(error) or type(error).__name__)
            is_available = False
        else:
            is_available = True
        serving = health_pb2.HealthCheckResponse.SERVING if is_available else health_pb2.HealthCheckResponse.NOT_SERVING
        await statuses.set(service, serving)
        await asyncio.sleep(period)
