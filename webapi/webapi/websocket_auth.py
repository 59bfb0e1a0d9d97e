"""Authentication of a WebSocket: by the header, or by a key in a message, since browsers cannot send the header.

The key is verified again while the connection lasts: otherwise a revoked key could go on receiving.
"""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from common.auth.middleware import Keyring
from common.auth.principal import Principal
from common.web.problems import Problem

KEY_TIMEOUT = 10.0  # seconds in which a message with a key must come


class WebSocketAuth:
    """The key and the principal of one connection; `principal` is None until it is authenticated."""

    def __init__(self, keyring: Keyring, address: str) -> None:
        self._keyring = keyring
        self._address = address
        self._key = ""
        self.principal: Principal | None = None

    async def authenticate(self, key: str) -> Principal:
        """Verify the key ('' for none). Raises Problem: 401, 429, or 503 while keys cannot be verified."""
        self.principal = principal = await self._keyring.principal(key, self._address)
        self._key = key
        return principal

    async def close_when_revoked(self, send: Any) -> None:
        """Close the connection once its key is revoked, or once a key is needed and it has none."""
        while True:
            await asyncio.sleep(self._keyring.ttl)
            if self.principal is None:
                continue
            try:
                await self._keyring.principal(self._key, self._address)
            except Problem as problem:
                if problem.status in (401, 429):  # while keys cannot be verified, open connections stay open
                    await close(send, problem)
                    return


async def close(send: Any, problem: Problem) -> None:
    """Send the error and close: code 1008 if the key is not valid, 1013 if a later try may succeed."""
    code = 1008 if problem.status == 401 else 1013
    with suppress(OSError, RuntimeError):  # the client has disconnected meanwhile
        await send_error(send, str(problem))
        await send({"type": "websocket.close", "code": code, "reason": problem.title})


async def send_error(send: Any, error: str) -> None:
    """Send `{"error": ...}` to the client."""
    await send({"type": "websocket.send", "text": msgspec.json.encode({"error": error}).decode()})
