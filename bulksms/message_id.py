"""A message's id on the wire: one opaque string that holds both parts of its key in salesdb."""

from functools import lru_cache
from uuid import UUID

from asyncpg.pgproto import pgproto

_LARGEST_SEQ = 2**31 - 1


def encode(bulksms_id: UUID, seq: int) -> str:
    """The message id of row (bulksms_id, seq)."""
    return f"{bulksms_id.hex}-{seq}"


def decode(message_id: str) -> tuple[UUID, int] | None:
    """The row that a message id stands for, or None if it cannot be one of ours."""
    head, _, tail = message_id.partition("-")
    bulksms_id = _campaign(head)
    if bulksms_id is None or len(tail) > 10 or not (tail.isascii() and tail.isdigit()):
        return None
    seq = int(tail)
    return (bulksms_id, seq) if seq <= _LARGEST_SEQ else None


@lru_cache(maxsize=1024)
def _campaign(head: str) -> UUID | None:
    # Reports come by the thousand for a few campaigns: making a UUID for each would cost more than the rest of decode,
    # and asyncpg's own kind, which is a UUID, costs it nothing to send.
    try:
        return pgproto.UUID(head) if len(head) == 32 else None
    except ValueError:
        return None
