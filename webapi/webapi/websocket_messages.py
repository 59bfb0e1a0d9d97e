"""What clients send on `/ws`: one message type, decoded, checked and limited in rate."""

import asyncio
import time
from typing import Annotated, Any
from uuid import UUID

import msgspec

from common.auth.rate_limit import Limiter
from common.web.problems import Problem
from common.web.requests import NOT_JSON, not_json
from webapi.webapi.websocket_auth import KEY_TIMEOUT, WebSocketAuth, send_error

_MAX_WORKSPACES = 100  # of one connection
_MAX_RATE = 20  # messages per second of one client: each costs a database query

_USAGE = f'send {{"workspace_id": "<uuid>"}} or a list of up to {_MAX_WORKSPACES}'

_Ids = Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=_MAX_WORKSPACES)]


class WatchRequest(msgspec.Struct):
    """What a client sends: `{"workspace_id": "..."}`, or `{"workspace_id": ["...", "..."]}` for several.

    `campaigns`: send their campaigns as well, each as `{"campaign": {...}}`.
    `key`: for a client without the header `Authorization`: in its first message, alone or with the workspaces.
    """

    workspace_id: UUID | _Ids | None = None
    campaigns: bool = False
    key: str = ""

    @property
    def ids(self) -> list[UUID]:
        if self.workspace_id is None:
            return []
        return self.workspace_id if isinstance(self.workspace_id, list) else [self.workspace_id]


class ClientDisconnectedError(Exception):
    """The connection has ended."""


_decoder = msgspec.json.Decoder(WatchRequest)


def decode(message: str | bytes) -> WatchRequest:
    """Decode a client's message. Raises one of NOT_JSON."""
    return _decoder.decode(message)


class MessageReader:
    """Reads the messages of one client."""

    def __init__(self, receive: Any, send: Any, limiter: Limiter) -> None:
        self._receive = receive
        self._limiter = limiter
        self._send = send
        self._second = self._count = 0

    async def next(self, auth: WebSocketAuth) -> WatchRequest:
        """Wait for the next valid message.

        Raises ClientDisconnectedError, Problem 401 if a client that needs a key does not send one in time, or 429
        if its messages exceed the rate limit of its key.
        """
        try:
            async with asyncio.timeout(None if auth.principal else KEY_TIMEOUT):
                while (request := await self._read(auth)) is None:
                    pass
                return request
        except TimeoutError:
            raise Problem(401, "API key required", f'send {{"key": "..."}} within {KEY_TIMEOUT:g} s') from None

    async def _read(self, auth: WebSocketAuth) -> WatchRequest | None:
        """Read a message; None for an invalid one, after an error message to the client."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise ClientDisconnectedError
        if self._exceeds_rate():
            reason = f"more than {_MAX_RATE} messages per second: one message can name {_MAX_WORKSPACES} workspaces"
            await self._send({"type": "websocket.close", "code": 1008, "reason": reason})
            raise ClientDisconnectedError
        if auth.principal is not None:
            await self._limiter.take(auth.principal)
        try:
            request = decode(message.get("text") or message.get("bytes") or b"")
        except NOT_JSON as error:
            await send_error(self._send, f"{not_json(error)}; {_USAGE}")
            return None
        if request.workspace_id is None and not request.key:
            await send_error(self._send, f"workspace_id is missing; {_USAGE}")
            return None
        return request

    def _exceeds_rate(self) -> bool:
        """Count a message; True if there are too many in this second."""
        second = int(time.monotonic())
        self._second, self._count = second, self._count + 1 if second == self._second else 1
        return self._count > _MAX_RATE
