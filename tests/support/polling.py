"""Polling: a test waits for what it expects, never for a length of time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(what: Callable[[], Awaitable[Any]], timeout: float = 120) -> Any:
    """Poll until `what` gives something true, and return it."""
    deadline = time.monotonic() + timeout
    while not (result := await what()):
        assert time.monotonic() < deadline, f"still not so after {timeout} s: {what}"
        await asyncio.sleep(0.05)
    return result
