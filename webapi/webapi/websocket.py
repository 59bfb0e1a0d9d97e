"""`/ws`: a client authenticates, names workspaces, and gets their credit at once and after every change.

If it asks for campaigns, it gets theirs as well.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from starlette.requests import HTTPConnection

from common import topology
from common.auth.middleware import Keyring, bearer, client_address
from common.auth.rate_limit import Limiter
from common.broadcast import KrispBroadcast
from common.database import Database
from common.observability.counters import counters
from common.web.problems import Problem
from rpc.client import RpcClient
from webapi.webapi import campaign_events
from webapi.webapi.credit_sender import CreditSender
from webapi.webapi.metrics import WebSocketMetrics
from webapi.webapi.websocket_auth import WebSocketAuth, close, send_error
from webapi.webapi.websocket_limits import Slot, SocketLimits
from webapi.webapi.websocket_messages import ClientDisconnectedError, MessageReader, WatchRequest
from workspace import credit

log = structlog.get_logger()


class CreditSocket:
    """The endpoint, as a plain ASGI callable: a thousand clients receive every change, so no layer stands between."""

    def __init__(
        self,
        ds: Database,
        broadcast: KrispBroadcast,
        rpc: RpcClient,
        keyring: Keyring,
        limiter: Limiter,
        limits: SocketLimits,
        metrics: WebSocketMetrics,
    ) -> None:
        self._ds = ds
        self._broadcast = broadcast
        self._rpc = rpc
        self._keyring = keyring
        self._limiter = limiter
        self._limits = limits
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._metrics.clients.track_inprogress():
            await self._handle(scope, receive, send)

    async def _handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Authenticate by the header if there is one, accept, and serve until the connection ends."""
        await receive()  # websocket.connect
        connection = HTTPConnection(scope)
        address = client_address(connection)
        auth = WebSocketAuth(self._keyring, address)
        try:
            await self._authenticate(auth, connection)
            with self._limits.slot(auth.principal.key_id if auth.principal else address) as slot:
                await self._accept(auth, slot, scope, receive, send)
        except Problem as problem:  # before it was accepted
            await problem.response()(scope, receive, send)

    async def _authenticate(self, auth: WebSocketAuth, connection: HTTPConnection) -> None:
        """Authenticate by the header if there is one. Raises Problem, unless a message may bring the key."""
        key = bearer(connection)
        try:
            principal = await auth.authenticate(key)
        except Problem as problem:
            if key or problem.status != 401:
                raise
            return
        self._keyring.refuse_cross_origin(principal, connection)
        await self._limiter.take(principal)

    async def _accept(self, auth: WebSocketAuth, slot: Slot, scope: Any, receive: Any, send: Any) -> None:
        """Accept, and serve until the connection ends; never raises Problem."""
        await send({"type": "websocket.accept"})
        revocation = asyncio.create_task(auth.close_when_revoked(send))
        try:
            await self._serve(auth, slot, scope, receive, send)
        except (ClientDisconnectedError, OSError):
            pass  # OSError: it disconnected while we were sending
        except Problem as problem:
            await close(send, problem)
        finally:
            revocation.cancel()

    async def _serve(self, auth: WebSocketAuth, slot: Slot, scope: Any, receive: Any, send: Any) -> None:
        """Follow the client's requests, each of which replaces the one before.

        Raises ClientDisconnectedError at the end, or Problem if the client is not authenticated.
        """
        reader = MessageReader(receive, send, self._limiter)
        subscriptions: list[asyncio.Task[None]] = []
        try:
            while True:
                request = await reader.next(auth)
                visible = await self._visible(auth, slot, request, send)
                for task in subscriptions:
                    task.cancel()
                sender = CreditSender(scope, send, self._metrics.frames)
                subscriptions = [asyncio.create_task(self._send_credit(sender, send, visible))]
                if request.campaigns:
                    subscriptions.append(asyncio.create_task(self._send_campaigns(send, visible)))
        finally:
            for task in subscriptions:
                task.cancel()

    async def _visible(self, auth: WebSocketAuth, slot: Slot, request: WatchRequest, send: Any) -> list[UUID]:
        """The requested workspaces that the client may see; the others get an error message. Raises Problem."""
        principal = auth.principal
        if request.key or principal is None:
            principal = await auth.authenticate(request.key)
            slot.move(principal.key_id)
            await self._limiter.take(principal)
        visible = [workspace_id for workspace_id in request.ids if principal.sees(workspace_id)]
        for hidden in set(request.ids) - set(visible):
            await send_error(send, f"there is no workspace {hidden}")
        return visible

    async def _send_campaigns(self, send: Any, ids: Sequence[UUID]) -> None:
        """Send the campaigns of the workspaces now, and each whenever it changes."""

        async def send_campaign(data: bytes) -> None:
            counters[topology.FRAMES] += 1
            await send({"type": "websocket.send", "text": data.decode()})

        with suppress(OSError, RuntimeError):  # the client disconnected while we were sending
            await campaign_events.follow(self._broadcast, self._rpc, send_campaign, ids)

    async def _send_credit(self, sender: CreditSender, send: Any, ids: Sequence[UUID]) -> None:
        """Send the credit of the workspaces now, and whenever it changes."""
        topics = [str(workspace_id) for workspace_id in ids]
        try:
            # Subscribe first, then read: a change between the two waits in the subscription.
            with self._broadcast.subscribe(topology.CREDIT_CHANNEL, topics, sender.write_now) as updates:
                credits = await credit.get_many(self._ds, ids)
                await sender.send_initial(credits)
                for missing in set(ids) - {current.workspace_id for current in credits}:
                    await send_error(send, f"there is no workspace {missing}")
                await sender.send_updates(updates)
        except (OSError, RuntimeError):
            pass  # the client disconnected while we were sending
        except Exception as error:
            log.warning("credit cannot be sent to a WebSocket client", reason=str(error) or type(error).__name__)
            reason = "the database does not answer, connect again"
            await send({"type": "websocket.close", "code": 1013, "reason": reason})
