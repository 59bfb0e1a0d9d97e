"""Collects items that arrive one by one, and sends them in batches."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


class Batcher(Generic[T]):
    """Sends the first items at once, and those of the next `period` seconds as one batch of up to `most` items.

    Unsent items are lost when the process ends: only for items that a database holds as well.
    """

    def __init__(self, send: Callable[[list[T]], Awaitable[None]], *, period: float, most: int = 1_000) -> None:
        self._send = send
        self._period = period
        self._most = most
        self._items: list[T] = []
        self._wake = asyncio.Event()

    def add(self, items: Sequence[T]) -> None:
        """Add items to the next batch."""
        self._items += items
        self._wake.set()

    async def run(self) -> None:
        """Send batches until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._items:
                batch, self._items = self._items[: self._most], self._items[self._most :]
                try:
                    await self._send(batch)
                except Exception as error:
                    log.error("a batch was not sent; the database still holds it", items=len(batch), exc_info=error)
            await asyncio.sleep(self._period)
