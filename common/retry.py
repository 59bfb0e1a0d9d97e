"""Retries with backoff, and waiting for a dependency that does not answer yet."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator

import structlog

log = structlog.get_logger()


def backoff(first: float = 0.1, most: float = 5.0) -> Iterator[float]:
    """Yield the seconds before each retry: doubling up to `most`, with jitter on the upper half."""
    delay = first
    while True:
        yield delay * random.uniform(0.5, 1.0)
        delay = min(delay * 2, most)


async def wait_for(name: str, address: str, check: Callable[[], Awaitable[object]]) -> None:
    """Wait until `check` succeeds; log once that the dependency `name` does not answer, and once that it does again."""
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
                log.info(f"{name} answers")
            return
