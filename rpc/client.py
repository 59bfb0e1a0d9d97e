"""The client of the rpc node: typed results, a deadline on every call, its own exceptions."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import grpc
import msgspec
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.auth.principal import Principal
from common.observability.counters import counters
from common.topology import GRPC_CALLS
from rpc.security import ClientSecurity
from rpc.stubs import bulksms_pb2, bulksms_pb2_grpc, workspace_credit_pb2, workspace_credit_pb2_grpc
from rpc.tracing import client_interceptors

Reply = TypeVar("Reply")


class WorkspaceCredit(msgspec.Struct, frozen=True):
    """A workspace's current credit; `version` increases with every change."""

    workspace_id: UUID
    name: str
    credit: Decimal
    reserved: Decimal
    available: Decimal
    version: int


class Progress(msgspec.Struct, frozen=True):
    """The progress of a campaign: contacts by status, cost in credits, times in RFC 3339 or empty.

    `unsent`: contacts of a cancelled campaign that will not be sent; `pause_reason`: empty unless paused automatically.
    """

    bulksms_id: UUID
    workspace_id: UUID
    name: str
    status: str
    contacts: int
    queued: int
    sent: int
    failed: int
    delivered: int
    undelivered: int
    total_cost: Decimal
    charged: Decimal
    created_at: str
    started_at: str
    completed_at: str
    scheduled_for: str
    pause_reason: str
    unsent: int


class RpcError(Exception):
    """A call of the rpc node failed."""


class RpcUnavailableError(RpcError):
    """The rpc node did not respond in time: the same call may succeed later."""


class RpcTokenError(RpcError):
    """RPC_TOKEN differs from that of the rpc node: no call succeeds until it is corrected."""


class NotFoundError(RpcError):
    """No workspace or campaign has this id."""


class InsufficientCreditError(RpcError):
    """The available credit is too low; `needed` and `available` in credits."""

    def __init__(self, message: str, needed: str, available: str) -> None:
        super().__init__(message)
        self.needed = needed
        self.available = available


class ReservationConflictError(RpcError):
    """The campaign holds a reservation of another amount, or its reservation was released."""


_NO_SECURITY = ClientSecurity()

_RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class RpcClient:
    """Calls the rpc node at `address` (host:port); each call has `timeout` seconds, including a restart of the node."""

    def __init__(self, address: str, timeout: float, security: ClientSecurity = _NO_SECURITY) -> None:
        self.address = address
        self._timeout = timeout
        self._security = security
        # Reconnect within a second after the node was unavailable, not after gRPC's default of two minutes.
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
        interceptors = client_interceptors()
        self._channel = (
            grpc.aio.secure_channel(address, security.credentials, options=options, interceptors=interceptors)
            if security.credentials
            else grpc.aio.insecure_channel(address, options=options, interceptors=interceptors)
        )
        self._credit = workspace_credit_pb2_grpc.WorkspaceCreditStub(self._channel)
        self._bulksms = bulksms_pb2_grpc.BulkSmsStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)

    async def get_workspace_credit(self, workspace_id: UUID) -> WorkspaceCredit:
        """The workspace's current credit. Raises NotFoundError, RpcUnavailableError."""
        request = workspace_credit_pb2.GetWorkspaceCreditRequest(workspace_id=str(workspace_id))
        return _credit(await self._call(self._credit.GetWorkspaceCredit, request))

    async def reserve_credit(self, workspace_id: UUID, campaign_id: UUID, amount: Decimal) -> WorkspaceCredit:
        """Reserve `amount` credits for a campaign; repeating it changes nothing.

        Raises InsufficientCreditError, ReservationConflictError, NotFoundError, RpcUnavailableError.
        """
        request = workspace_credit_pb2.ReserveCreditRequest(
            workspace_id=str(workspace_id), campaign_id=str(campaign_id), amount=str(amount)
        )
        return _credit(await self._call(self._credit.ReserveCredit, request))

    async def release_credit(self, workspace_id: UUID, campaign_id: UUID) -> WorkspaceCredit:
        """Release the reservation of a campaign that will not run, and refuse further reservations for it."""
        request = workspace_credit_pb2.ReleaseCreditRequest(
            workspace_id=str(workspace_id), campaign_id=str(campaign_id)
        )
        return _credit(await self._call(self._credit.ReleaseCredit, request))

    async def verify_key(self, key: str) -> Principal | None:
        """The principal of an API key, None if the key is not valid. Raises RpcUnavailableError."""
        request = workspace_credit_pb2.VerifyKeyRequest(key=key)
        try:
            principal = await self._call(self._credit.VerifyKey, request)
        except NotFoundError:
            return None
        return Principal(_uuid(principal.key_id), _uuid(principal.workspace_id))

    async def get_progress(self, bulksms_id: UUID) -> Progress:
        """The progress of a campaign. Raises NotFoundError, RpcUnavailableError."""
        request = bulksms_pb2.GetProgressRequest(bulksms_id=str(bulksms_id))
        return _progress(await self._call(self._bulksms.GetProgress, request))

    async def list_progress(self, workspace_id: UUID, limit: int) -> list[Progress]:
        """The progress of the newest campaigns of a workspace, up to 100. Raises RpcUnavailableError."""
        request = bulksms_pb2.ListProgressRequest(workspace_id=str(workspace_id), limit=limit)
        reply = await self._call(self._bulksms.ListProgress, request)
        return [_progress(progress) for progress in reply.campaigns]

    async def check(self, service: str = "") -> None:
        """Raise RpcUnavailableError unless the node serves `service` (the empty one: the node itself)."""
        request = health_pb2.HealthCheckRequest(service=service)
        reply = await self._call(self._health.Check, request)
        if reply.status != health_pb2.HealthCheckResponse.SERVING:
            raise RpcUnavailableError(f"{service or 'rpc'} is not serving")

    async def _call(self, method: Callable[..., Awaitable[Reply]], request: Any) -> Reply:
        counters[GRPC_CALLS] += 1
        try:
            return await method(request, timeout=self._timeout, wait_for_ready=True, metadata=self._security.metadata())
        except grpc.aio.AioRpcError as error:
            raise _error(error) from error

    async def close(self) -> None:
        await self._channel.close()


def _error(error: grpc.aio.AioRpcError) -> RpcError:
    message = error.details() or error.code().name
    if error.code() in _RETRYABLE:
        return RpcUnavailableError(f"rpc does not answer: {message}")
    if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return RpcTokenError(f"rpc refuses the token: {message}")
    if error.code() == grpc.StatusCode.NOT_FOUND:
        return NotFoundError(message)
    if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
        extra = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
        return InsufficientCreditError(message, extra.get("needed", ""), extra.get("available", ""))
    if error.code() == grpc.StatusCode.ALREADY_EXISTS:
        return ReservationConflictError(message)
    return RpcError(f"{error.code().name}: {message}")


def _uuid(value: str) -> UUID | None:
    return UUID(value) if value else None


def _credit(reply: workspace_credit_pb2.Credit) -> WorkspaceCredit:
    return WorkspaceCredit(
        UUID(reply.workspace_id),
        reply.name,
        Decimal(reply.credit),
        Decimal(reply.reserved),
        Decimal(reply.available),
        reply.version,
    )


def _progress(reply: bulksms_pb2.Progress) -> Progress:
    return msgspec.convert({name: getattr(reply, name) for name in Progress.__struct_fields__}, Progress)
