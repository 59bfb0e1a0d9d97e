"""Message ids as the carrier sees them: one opaque string made of both parts of the key in salesdb."""

from functools import lru_cache
from uuid import UUID

from asyncpg.pgproto import pgproto

_MAX_SEQ = 2**31 - 1


def encode(bulksms_id: UUID, seq: int) -> str:
    """The message id of row (bulksms_id, seq)."""
    return f"{bulksms_id.hex}-{seq}"


def decode(message_id: str) -> tuple[UUID, int] | None:
    """The row of a message id, or None if it was not issued by `encode`."""
    head, _, tail = message_id.partition("-")
    bulksms_id = _campaign_id(head)
    if bulksms_id is None or len(tail) > 10 or not (tail.isascii() and tail.isdigit()):
        return None
    seq = int(tail)
    return (bulksms_id, seq) if seq <= _MAX_SEQ else None


@lru_cache(maxsize=1024)
def _campaign_id(head: str) -> UUID | None:
    # Thousands of reports arrive for a few campaigns: parsing a UUID for each would cost more than the rest of decode,
    # and asyncpg sends its own subclass of UUID without conversion.
    try:
        return pgproto.UUID(head) if len(head) == 32 else None
    except ValueError:
        return None
