"""Who is at the other end of a WebSocket: known by the header, or by the key in a message, since a browser can send no
header; and asked for again while the connection lasts, or a revoked key would watch for ever.
"""

import asyncio
from contextlib import suppress
from typing import Any

import msgspec

from common.auth.middleware import Keyring
from common.auth.principal import Principal
from common.web.problems import Problem

ENTRY = 10.0  # seconds for a message with a key


class Doorkeeper:
    """Holds a connection's key, and its principal from the moment at which there is one."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._key = ""
        self.principal: Principal | None = None

    async def admit(self, key: str) -> Principal:
        """Let in whoever shows this key ('' for none). Raises Problem."""
        self.principal = principal = await self._keyring.principal(key)
        self._key = key
        return principal

    async def expel(self, send: Any) -> None:
        """Close the connection once its key does not count any more, or one is needed from now on."""
        while True:
            await asyncio.sleep(self._keyring.ttl)
            if self.principal is None:
                continue
            try:
                await self._keyring.principal(self._key)
            except Problem as problem:
                if problem.status == 401:  # while nobody can tell, whoever is in stays
                    await close(send, problem)
                    return


async def close(send: Any, problem: Problem) -> None:
    """Say what is wrong and close: with 1008 for good, with 1013 if it is worth another try."""
    code = 1008 if problem.status == 401 else 1013
    with suppress(OSError, RuntimeError):  # the client has gone meanwhile
        await say(send, str(problem))
        await send({"type": "websocket.close", "code": code, "reason": problem.title})


async def say(send: Any, error: str) -> None:
    """Tell the client of an error."""
    await send({"type": "websocket.send", "text": msgspec.json.encode({"error": error}).decode()})
