"""`/ws`: a client names workspaces, gets their credit at once and then every change.

A client that reads slowly gets the latest of each workspace; what it has not read in time is replaced, never queued.
"""

import asyncio
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect

from common.broadcast import KrispBroadcast, Subscription
from common.database import Database
from webapi.webapi.news import CHANNEL, CreditNews, encode
from workspace import credit

log = structlog.get_logger()

_MOST = 100  # workspaces on one connection

_Ids = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=_MOST)]


class Watch(msgspec.Struct):
    """What a client sends: `{"workspace_id": "..."}`, or `{"workspace_id": ["...", "..."]}` for several."""

    workspace_id: UUID | _Ids

    @property
    def ids(self) -> list[UUID]:
        return self.workspace_id if isinstance(self.workspace_id, list) else [self.workspace_id]


class CreditSocket:
    """Serves one WebSocket after another."""

    def __init__(self, ds: Database, broadcast: KrispBroadcast) -> None:
        self._ds = ds
        self._broadcast = broadcast

    async def serve(self, websocket: WebSocket) -> None:
        await websocket.accept()
        watching: asyncio.Task[None] | None = None
        try:
            while True:
                watch = await self._receive(websocket)
                if watch is None:
                    continue
                if watching is not None:
                    watching.cancel()
                watching = asyncio.create_task(self._tell(websocket, watch.ids))
        except WebSocketDisconnect:
            pass
        finally:
            if watching is not None:
                watching.cancel()

    async def _receive(self, websocket: WebSocket) -> Watch | None:
        """What the client wants to watch from now on; a message that is no such thing is answered with an error."""
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1000))
        try:
            return msgspec.json.decode(message.get("text") or message.get("bytes") or b"", type=Watch)
        except msgspec.MsgspecError as error:
            await self._say(websocket, f'{error}; send {{"workspace_id": "<uuid>"}} or a list of up to {_MOST}')
            return None

    async def _tell(self, websocket: WebSocket, ids: Sequence[UUID]) -> None:
        """Send the credit of the workspaces now and whenever it changes."""
        try:
            # Listen first, read afterwards: a change between the two is in the mailbox.
            with self._broadcast.subscribe(CHANNEL, [str(one) for one in ids]) as news:
                sent = await self._tell_now(websocket, ids)
                await self._tell_changes(websocket, news, sent)
        except (WebSocketDisconnect, RuntimeError):
            pass  # the client has gone while we were sending
        except Exception as error:
            log.warning("cannot watch", reason=str(error) or type(error).__name__)
            await websocket.close(1013, "the database does not answer, connect again")

    async def _tell_now(self, websocket: WebSocket, ids: Sequence[UUID]) -> dict[UUID, int]:
        sent: dict[UUID, int] = {}
        for now in await credit.get_many(self._ds, ids):
            await websocket.send_text(encode(now).decode())
            sent[now.workspace_id] = now.version
        for missing in set(ids) - sent.keys():
            await self._say(websocket, f"there is no workspace {missing}")
        return sent

    async def _tell_changes(self, websocket: WebSocket, news: Subscription, sent: dict[UUID, int]) -> None:
        async for item in news:
            change = msgspec.json.decode(item.data, type=CreditNews)
            if change.version > sent.get(change.workspace_id, 0):
                sent[change.workspace_id] = change.version
                await websocket.send_text(item.data.decode())

    async def _say(self, websocket: WebSocket, error: str) -> None:
        await websocket.send_text(msgspec.json.encode({"error": error}).decode())
