"""`/ws`: a client shows its key, names workspaces, gets their credit at once and then every change, and so of their
campaigns if it asks.

A client that reads slowly gets the latest of each workspace; what it has not read in time is replaced, never queued.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
import structlog
from starlette.requests import HTTPConnection
from websockets.frames import Frame, Opcode

from common import topology
from common.auth.middleware import Keyring, bearer, refuse_cross_origin
from common.broadcast import Event, KrispBroadcast, Subscription
from common.database import Database
from common.observability.counters import counters
from common.observability.metrics import UnlockedCounter
from common.web.problems import Problem
from common.web.requests import NOT_JSON, not_json
from common.web.websocket import BoundedWebSocket
from rpc.client import RpcClient
from webapi.webapi import campaign_events
from webapi.webapi.credit_events import CreditView, encode
from webapi.webapi.metrics import WebSocketMetrics
from webapi.webapi.websocket_auth import ENTRY, Doorkeeper, close, say
from workspace import credit
from workspace.credit import Credit

log = structlog.get_logger()

_MOST = 100  # workspaces on one connection
_MOST_A_SECOND = 20  # messages of one client: each makes us ask the database

_Ids = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=_MOST)]


class Watch(msgspec.Struct):
    """What a client sends: `{"workspace_id": "..."}`, or `{"workspace_id": ["...", "..."]}` for several.

    `campaigns`: told as well, each as `{"campaign": {...}}`.
    A client that sends no header sends `{"key": "..."}` first, or with it.
    """

    workspace_id: UUID | _Ids | None = None
    campaigns: bool = False
    key: str = ""

    @property
    def ids(self) -> list[UUID]:
        if self.workspace_id is None:
            return []
        return self.workspace_id if isinstance(self.workspace_id, list) else [self.workspace_id]


_decoder = msgspec.json.Decoder(Watch)


def decode(message: str | bytes) -> Watch:
    """What a client's message asks for. Raises one of NOT_JSON."""
    return _decoder.decode(message)


class ReadyFrames(BoundedWebSocket):
    """uvicorn's WebSocket, with an ASGI extension: a frame made once is written to every client that gets it."""

    async def run_asgi(self) -> None:
        self.scope["extensions"]["ready_frames"] = {"write": self._write}
        await super().run_asgi()

    def _write(self, frame: bytes) -> bool:
        """Write the frame now; False if the client has not yet read what it was sent before, or is going."""
        if self.close_sent or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frame)
        counters[topology.FRAMES] += 1
        return True


class _ClientGoneError(Exception):
    """The connection has ended."""


class CreditSocket:
    """Serves one WebSocket after another: a bare ASGI callable, since a thousand clients read every change."""

    def __init__(
        self, ds: Database, broadcast: KrispBroadcast, rpc: RpcClient, keyring: Keyring, metrics: WebSocketMetrics
    ) -> None:
        self._ds = ds
        self._broadcast = broadcast
        self._rpc = rpc
        self._keyring = keyring
        self._metrics = metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self._metrics.clients.track_inprogress():
            await self._let_in(scope, receive, send)

    async def _let_in(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()  # the connection is asked for
        door = Doorkeeper(self._keyring)
        connection = HTTPConnection(scope)
        key = bearer(connection)
        try:
            refuse_cross_origin(await door.admit(key), connection)
        except Problem as problem:
            if key or problem.status != 401:
                await problem.response()(scope, receive, send)
                return
        await send({"type": "websocket.accept"})
        expelling = asyncio.create_task(door.expel(send))
        write = scope["extensions"]["ready_frames"]["write"]
        try:
            await self._serve(door, partial(_Teller, write, send, self._metrics.frames), receive, send)
        except (_ClientGoneError, OSError):
            pass  # also while we were sending
        except Problem as problem:
            await close(send, problem)
        finally:
            expelling.cancel()

    async def _serve(self, door: Doorkeeper, teller: Callable[[], "_Teller"], receive: Any, send: Any) -> None:
        """Do what the client asks until it goes. Raises _ClientGoneError, or Problem if it is not let in."""
        watching: list[asyncio.Task[None]] = []
        try:
            pace = _Pace()
            while True:
                watch = await _next(door, receive, send, pace)
                principal = door.principal
                if watch.key or principal is None:
                    principal = await door.admit(watch.key)
                for task in watching:
                    task.cancel()
                seen = [one for one in watch.ids if principal.sees(one)]
                for hidden in set(watch.ids) - set(seen):
                    await say(send, f"there is no workspace {hidden}")
                watching = [asyncio.create_task(self._tell(teller(), send, seen))]
                if watch.campaigns:
                    watching.append(asyncio.create_task(self._tell_campaigns(send, seen)))
        finally:
            for task in watching:
                task.cancel()

    async def _tell_campaigns(self, send: Any, ids: Sequence[UUID]) -> None:
        """Send the campaigns of the workspaces now and whenever one moves."""

        async def tell(data: bytes) -> None:
            counters[topology.FRAMES] += 1
            await send({"type": "websocket.send", "text": data.decode()})

        with suppress(OSError, RuntimeError):  # the client has gone while we were sending
            await campaign_events.tell(self._broadcast, self._rpc, tell, ids)

    async def _tell(self, teller: "_Teller", send: Any, ids: Sequence[UUID]) -> None:
        """Send the credit of the workspaces now and whenever it changes."""
        try:
            # Listen first, read afterwards: a change between the two is in the mailbox.
            with self._broadcast.subscribe(topology.CREDIT_CHANNEL, [str(one) for one in ids], teller.at_once) as news:
                found = await credit.get_many(self._ds, ids)
                await teller.begin(found)
                for missing in set(ids) - {now.workspace_id for now in found}:
                    await say(send, f"there is no workspace {missing}")
                await teller.go_on(news)
        except (OSError, RuntimeError):
            pass  # the client has gone while we were sending
        except Exception as error:
            log.warning("cannot watch", reason=str(error) or type(error).__name__)
            reason = "the database does not answer, connect again"
            await send({"type": "websocket.close", "code": 1013, "reason": reason})


class _Teller:
    """Tells a client the credit, each workspace's in the order of its versions.

    A change is written at once to a client that reads fast; for one that does not, the latest waits in its mailbox.
    """

    def __init__(self, write: Callable[[bytes], bool], send: Any, frames: UnlockedCounter) -> None:
        self._write = write
        self._send = send
        self._frames = frames
        self._sent: dict[UUID, int] = {}
        self._waiting = True  # for a message before to go out

    def at_once(self, news: Event) -> bool:
        """Write the news if that can be done now; True if it is done with."""
        workspace_id, version, frame = _change(news.data)
        if self._waiting:
            return False
        if version > self._sent.get(workspace_id, 0):
            if not self._write(frame):
                return False
            self._sent[workspace_id] = version
            self._frames.value += 1
        return True

    async def begin(self, credits: Sequence[Credit]) -> None:
        for now in credits:
            self._sent[now.workspace_id] = now.version
            self._frames.value += 1
            await self._send({"type": "websocket.send", "text": encode(now).decode()})

    async def go_on(self, news: Subscription) -> None:
        """Send what could not be written at once."""
        while True:
            self._waiting = False
            item = await news.get()
            self._waiting = True
            workspace_id, version, _ = _change(item.data)
            if version > self._sent.get(workspace_id, 0):
                self._sent[workspace_id] = version
                self._frames.value += 1
                await self._send({"type": "websocket.send", "text": item.data.decode()})


class _Pace:
    """How many messages a client sends in a second."""

    def __init__(self) -> None:
        self._second = self._count = 0

    def is_too_fast(self) -> bool:
        """Count a message: are there more in this second than are taken?"""
        second = int(time.monotonic())
        self._second, self._count = second, self._count + 1 if second == self._second else 1
        return self._count > _MOST_A_SECOND


async def _next(door: Doorkeeper, receive: Any, send: Any, pace: _Pace) -> Watch:
    """The next thing that the client wants. Raises Problem if it does not show a key in time."""
    try:
        async with asyncio.timeout(None if door.principal else ENTRY):
            while (watch := await _receive(receive, send, pace)) is None:
                pass
            return watch
    except TimeoutError:
        raise Problem(401, "Key needed", f'send {{"key": "..."}} within {ENTRY:g} s') from None


async def _receive(receive: Any, send: Any, pace: _Pace) -> Watch | None:
    """What the client wants to watch from now on; a message that is no such thing is answered with an error."""
    message = await receive()
    if message["type"] == "websocket.disconnect":
        raise _ClientGoneError
    if pace.is_too_fast():
        reason = f"more than {_MOST_A_SECOND} messages in a second: one can name {_MOST} workspaces"
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        raise _ClientGoneError
    try:
        watch = decode(message.get("text") or message.get("bytes") or b"")
    except NOT_JSON as error:
        await say(send, f'{not_json(error)}; send {{"workspace_id": "<uuid>"}} or a list of up to {_MOST}')
        return None
    if watch.workspace_id is None and not watch.key:
        await say(send, f'workspace_id is missing; send {{"workspace_id": "<uuid>"}} or a list of up to {_MOST}')
        return None
    return watch


@lru_cache(maxsize=256)
def _change(data: bytes) -> tuple[UUID, int, bytes]:
    """The workspace and the version of news, and its frame: made once for all the clients that get it."""
    change = msgspec.json.decode(data, type=CreditView)
    return change.workspace_id, change.version, Frame(Opcode.TEXT, data).serialize(mask=False)
