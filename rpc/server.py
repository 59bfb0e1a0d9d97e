"""The gRPC server: questions that need an answer now, answered from the domain that owns the data."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from bulksms import campaigns
from bulksms.campaigns import CampaignNotFoundError, progress
from common.auth.loopback import is_loopback, require
from common.broadcast import KrispBroadcast
from common.database import UNAVAILABLE, Database
from common.money import MoneyError, parse_credits
from common.observability import heartbeat, logs, metrics, metrics_server, tracing
from common.settings import Settings
from common.web.health import Dependency
from rpc.audit_task import keep_auditing
from rpc.interceptor import Metered
from rpc.metrics import AuditMetrics, RpcMetrics
from rpc.security import Guard, server_credentials
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
    """Answers questions about credit from ds."""

    def __init__(self, ds: Database) -> None:
        self._ds = ds

    async def GetWorkspaceCredit(
        self, request: workspace_credit_pb2.GetWorkspaceCreditRequest, context: Context
    ) -> workspace_credit_pb2.Credit:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        return _credit(await _answer(context, lambda: credit.get(self._ds, workspace_id)))

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
        now = await _answer(context, lambda: credit.reserve(self._ds, workspace_id, campaign_id, amount))
        log.info("credit reserved", workspace_id=str(workspace_id), campaign_id=str(campaign_id), amount=str(amount))
        return _credit(now)

    async def ReleaseCredit(
        self, request: workspace_credit_pb2.ReleaseCreditRequest, context: Context
    ) -> workspace_credit_pb2.Credit:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        campaign_id = await _uuid(context, "campaign_id", request.campaign_id)
        return _credit(await _answer(context, lambda: credit.release(self._ds, workspace_id, campaign_id)))

    async def VerifyKey(
        self, request: workspace_credit_pb2.VerifyKeyRequest, context: Context
    ) -> workspace_credit_pb2.Principal:
        principal = await _answer(context, lambda: keys.verify(self._ds, request.key))
        if principal is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "nobody's key")
            raise AssertionError("abort() raises")
        return workspace_credit_pb2.Principal(
            key_id=str(principal.key_id or ""), workspace_id=str(principal.workspace_id or "")
        )


class BulkSmsServicer(bulksms_pb2_grpc.BulkSmsServicer):
    """Answers questions about campaigns from salesdb."""

    def __init__(self, salesdb: Database) -> None:
        self._salesdb = salesdb

    async def GetProgress(self, request: bulksms_pb2.GetProgressRequest, context: Context) -> bulksms_pb2.Progress:
        bulksms_id = await _uuid(context, "bulksms_id", request.bulksms_id)
        return bulksms_pb2.Progress(
            **progress(await _answer(context, lambda: campaigns.get(self._salesdb, bulksms_id)))
        )

    async def ListProgress(
        self, request: bulksms_pb2.ListProgressRequest, context: Context
    ) -> bulksms_pb2.ListProgressReply:
        workspace_id = await _uuid(context, "workspace_id", request.workspace_id)
        limit = request.limit or 20
        if not 1 <= limit <= 100:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "limit: must be 1 to 100")
        found = await _answer(context, lambda: campaigns.page(self._salesdb, workspace_id, None, limit))
        return bulksms_pb2.ListProgressReply(
            campaigns=[bulksms_pb2.Progress(**progress(campaign)) for campaign in found]
        )


async def _answer(context: Context, ask: Callable[[], Awaitable[Reply]]) -> Reply:
    """What the domain answers, or its error as a gRPC status."""
    try:
        return await ask()
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
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {value!r} is no UUID")
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
    logs.configure(settings.log_level, "rpc")
    tracing.configure(settings.otel_exporter_otlp_endpoint, "rpc")
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    require(settings.rpc_host, settings.rpc_token, "rpc", "set RPC_TOKEN, here and for its clients")
    ds, salesdb = Database("ds", settings.ds_dsn), Database("salesdb", settings.salesdb_dsn)
    await asyncio.gather(ds.open(wait=False), salesdb.open(wait=False))
    registry = metrics.registry()
    server = grpc.aio.server(
        interceptors=[Metered(RpcMetrics(registry)), Guard(settings.rpc_token)], options=[("grpc.so_reuseport", 0)]
    )
    workspace_credit_pb2_grpc.add_WorkspaceCreditServicer_to_server(WorkspaceCreditServicer(ds), server)
    bulksms_pb2_grpc.add_BulkSmsServicer_to_server(BulkSmsServicer(salesdb), server)
    statuses = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(statuses, server)
    if credentials := server_credentials(settings):
        server.add_secure_port(settings.rpc_address, credentials)
    else:
        server.add_insecure_port(settings.rpc_address)
    await server.start()
    log.info("rpc listens", address=settings.rpc_address, tls=credentials is not None)
    if not credentials and not is_loopback(settings.rpc_host):
        log.warning("RPC_TOKEN goes through the network unencrypted: set RPC_CERT and RPC_KEY, and RPC_CA of clients")
    parts = {"ds": Dependency(ds.address, ds.check), "salesdb": Dependency(salesdb.address, salesdb.check)}
    watches = [
        asyncio.create_task(_watch(statuses, _WORKSPACE_CREDIT, ds)),
        asyncio.create_task(_watch(statuses, _BULKSMS, salesdb)),
        asyncio.create_task(keep_auditing(ds, salesdb, AuditMetrics(registry), settings.audit_period)),
        asyncio.create_task(metrics_server.serve(settings.metrics_host, settings.rpc_metrics_port, registry, parts)),
    ]
    broadcast = KrispBroadcast.connect(settings.redis_url)
    watches.append(asyncio.create_task(heartbeat.run("rpc", broadcast, {"ds": ds.check, "salesdb": salesdb.check})))
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await stop.wait()
    for watch in watches:
        watch.cancel()
    await statuses.enter_graceful_shutdown()
    await server.stop(grace=5)
    await asyncio.gather(broadcast.close(), ds.close(), salesdb.close())


async def _watch(statuses: health.aio.HealthServicer, service: str, database: Database, period: float = 2.0) -> None:
    """Tell the health service whether the database behind a service answers."""
    while True:
        await statuses.set(service, health_pb2.HealthCheckResponse.NOT_SERVING)
        await database.wait()
        await statuses.set(service, health_pb2.HealthCheckResponse.SERVING)
        await _until_lost(database, period)


async def _until_lost(database: Database, period: float) -> None:
    """Return when the database, asked every `period` seconds, does not answer."""
    while True:
        await asyncio.sleep(period)
        try:
            await database.check()
        except Exception as error:
            log.warning(f"{database.name} does not answer", reason=str(error) or type(error).__name__)
            return
