"""Sends credit updates to WebSocket clients: each update is serialized once, for all clients.

A client that reads slowly gets the latest update of each workspace: in its `common.broadcast.Subscription` a newer
update replaces the older one, so nothing queues up.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from websockets.frames import Frame, Opcode

from common import topology
from common.broadcast import Event, Subscription
from common.observability.counters import counters
from common.observability.metrics import UnlockedCounter
from common.web.websocket import BoundedWebSocket
from webapi.webapi.credit_events import CreditView, encode
from workspace.credit import Credit

_EXTENSION = "bulksms.write_frame"  # the ASGI extension of SharedFrameWebSocket


class SharedFrameWebSocket(BoundedWebSocket):
    """uvicorn's WebSocket, with an ASGI extension that writes a frame which is already serialized."""

    async def run_asgi(self) -> None:
        self.scope["extensions"][_EXTENSION] = {"write": self._write}
        await super().run_asgi()

    def _write(self, frame: bytes) -> bool:
        """Write the frame now; False if the client has not read what was sent before, or is closing."""
        if self.close_sent or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frame)
        counters[topology.FRAMES] += 1
        return True


class CreditSender:
    """Sends one client the credit of its workspaces, each workspace's in the order of its versions.

    An update is written at once to a client that keeps up; for others the latest waits in their Subscription.
    """

    def __init__(self, scope: Any, send: Any, frames: UnlockedCounter) -> None:
        self._write: Callable[[bytes], bool] = scope["extensions"][_EXTENSION]["write"]
        self._send = send
        self._frames = frames
        self._sent: dict[UUID, int] = {}  # the last version sent, by workspace
        self._is_sending = True  # an earlier message is not written yet

    def write_now(self, update: Event) -> bool:
        """Write the update if that is possible now; True if it needs no further handling."""
        workspace_id, version, frame = _frame(update.data)
        if self._is_sending:
            return False
        if version > self._sent.get(workspace_id, 0):
            if not self._write(frame):
                return False
            self._sent[workspace_id] = version
            self._frames.value += 1
        return True

    async def send_initial(self, credits: Sequence[Credit]) -> None:
        """Send the credit as it is at the start."""
        for credit in credits:
            self._sent[credit.workspace_id] = credit.version
            self._frames.value += 1
            await self._send({"type": "websocket.send", "text": encode(credit).decode()})

    async def send_updates(self, updates: Subscription) -> None:
        """Send what `write_now` could not write, until cancelled."""
        while True:
            self._is_sending = False
            update = await updates.get()
            self._is_sending = True
            workspace_id, version, _ = _frame(update.data)
            if version > self._sent.get(workspace_id, 0):
                self._sent[workspace_id] = version
                self._frames.value += 1
                await self._send({"type": "websocket.send", "text": update.data.decode()})


@lru_cache(maxsize=256)
def _frame(data: bytes) -> tuple[UUID, int, bytes]:
    """The workspace, the version and the serialized frame of an update; cached for all clients that get it."""
    view = msgspec.json.decode(data, type=CreditView)
    return view.workspace_id, view.version, Frame(Opcode.TEXT, data).serialize(mask=False)
