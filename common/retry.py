"""Waiting for a part of the system that is not there yet: said once, tried again with backoff."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

import structlog

log = structlog.get_logger()


def backoff(first: float = 0.1, most: float = 5.0) -> Iterator[float]:
    """Seconds to wait before each further try: doubling up to `most`, with full jitter on the upper half."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, most)


async def wait_for(name: str, address: str, check: Callable[[], Awaitable[object]]) -> None:
    """Return once `check` succeeds; say in one line that `name` is missing, and in one that it is back."""
    waited = False
    for delay in backoff():
        try:
            await check()
        except Exception as error:
            if not waited:
                log.warning(f"waiting for {name} at {address}", reason=str(error) or type(error).__name__)
                waited = True
            await asyncio.sleep(delay)
        else:
            if waited:
                log.info(f"{name} is there")
            return
