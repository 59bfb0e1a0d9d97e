"""How many expensive requests a key, and all keys together, may have in progress; the rest are told to come later."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from common.web.problems import Problem

_RETRY_AFTER = 5  # seconds


def busy(detail: str) -> Problem:
    """429: too much of one kind is in progress."""
    return Problem(
        429,
        "Too many requests in progress",
        f"{detail}; nothing was changed, try again in {_RETRY_AFTER} s",
        headers={"Retry-After": str(_RETRY_AFTER)},
    )


class ConcurrencyLimit:
    """Bounds the requests of one kind, `what` in plural: `per_key` of one key and `total` of all may be in progress.

    Of these `at_once` do their work while the others wait, in the order of their arrival and one of each key at a
    time. Callers without a key, who are on this machine, share the bounds of all.
    """

    def __init__(self, what: str, *, per_key: int, total: int, at_once: int) -> None:
        self._what = what
        self._per_key = per_key
        self._total = total
        self._at_once = asyncio.Semaphore(at_once)
        self._in_progress: Counter[UUID | None] = Counter()
        self._turns: dict[UUID, asyncio.Lock] = {}

    @asynccontextmanager
    async def admit(self, key_id: UUID | None) -> AsyncIterator[None]:
        """Count a request of this key while the block runs. Raises Problem 429."""
        if key_id is not None and self._in_progress[key_id] >= self._per_key:
            raise busy(f"this key has {self._per_key} {self._what} in progress")
        if self._in_progress.total() >= self._total:
            raise busy(f"{self._total} {self._what} are in progress")
        self._in_progress[key_id] += 1
        try:
            yield
        finally:
            self._in_progress[key_id] -= 1
            if not self._in_progress[key_id]:
                del self._in_progress[key_id]
                if key_id is not None:
                    self._turns.pop(key_id, None)

    @asynccontextmanager
    async def turn(self, key_id: UUID | None) -> AsyncIterator[None]:
        """Wait until an admitted request may do its work, which the block is."""
        if key_id is None:
            async with self._at_once:
                yield
            return
        async with self._turns.setdefault(key_id, asyncio.Lock()), self._at_once:
            yield
