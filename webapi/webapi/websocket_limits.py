"""How many WebSockets may be open: of each API key, and in all."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from common.web.problems import Problem

# A key, the address of a client that has not sent its key yet, or None: no key is needed.
Owner = UUID | str | None


class SocketLimits:
    """Counts the open WebSockets of a process by owner; those without a key, on loopback, only in all."""

    def __init__(self, per_key: int, in_all: int) -> None:
        self._per_key = per_key
        self._in_all = in_all
        self._open: Counter[Owner] = Counter()

    @contextmanager
    def slot(self, owner: Owner) -> Iterator["Slot"]:
        """Count one WebSocket while the block runs. Raises Problem 429."""
        if self._open.total() >= self._in_all:
            raise _too_many(f"{self._in_all} WebSockets are open, as many as this process serves")
        self.enter(owner)
        slot = Slot(self, owner)
        try:
            yield slot
        finally:
            self.leave(slot.owner)

    def enter(self, owner: Owner) -> None:
        if owner is not None and self._open[owner] >= self._per_key:
            whose = "of this key" if isinstance(owner, UUID) else "without a key from this address"
            raise _too_many(f"{self._per_key} WebSockets {whose} are open: one can watch many workspaces")
        self._open[owner] += 1

    def leave(self, owner: Owner) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]


class Slot:
    """The place of one WebSocket."""

    def __init__(self, limits: SocketLimits, owner: Owner) -> None:
        self._limits = limits
        self.owner = owner

    def move(self, owner: Owner) -> None:
        """Count it for another owner from now on, once it has sent its key. Raises Problem 429."""
        if owner != self.owner:
            self._limits.enter(owner)
            self._limits.leave(self.owner)
            self.owner = owner


def _too_many(reason: str) -> Problem:
    return Problem(429, "Too many WebSockets", f"{reason}; close one, or try later", headers={"Retry-After": "10"})
