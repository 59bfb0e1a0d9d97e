"""Polling: tests wait for conditions, never for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def until(condition: Callable[[], Awaitable[Any]], timeout: float = 120) -> Any:
    """Poll until `condition` returns a true value, and return it."""
    deadline = time.monotonic() + timeout
    while not (result := await condition()):
        assert time.monotonic() < deadline, f"still false after {timeout} s: {condition}"
        await asyncio.sleep(0.05)
    return result
