"""How many bytes the uploads in progress may hold in temporary files, in all and for one key."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias
from uuid import UUID

from common.web.concurrency import busy

Take: TypeAlias = Callable[[int], None]


class UploadSpace:
    """`max_bytes` for all uploads, of which one key takes at most half."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[UUID | None, int] = {}

    @contextmanager
    def share(self, key_id: UUID | None) -> Iterator[Take]:
        """A function that takes bytes for an upload of this key; the end of the block returns them.

        The function raises Problem 429 if there is no room for them.
        """
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            mine = self._held.get(key_id, 0) + size
            if key_id is not None and mine > self._max_bytes // 2:
                raise busy(f"the uploads of this key that are in progress have {self._max_bytes // 2} bytes")
            if sum(self._held.values()) + size > self._max_bytes:
                raise busy(f"the uploads that are in progress have {self._max_bytes} bytes")
            taken += size
            self._held[key_id] = mine

        try:
            yield take
        finally:
            if left := self._held.pop(key_id, 0) - taken:
                self._held[key_id] = left
