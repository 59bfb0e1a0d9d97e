"""The port to a carrier: the messages it gets, its result, and the errors by which it can fail.

To add a carrier, write a class with the members of `Carrier` that raises these errors: whether a batch was certainly
not accepted, or may have been, decides whether it may be sent again.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec


class Message(msgspec.Struct, frozen=True):
    """One SMS: our id, the number in E.164, the text."""

    message_id: str
    to: str
    text: str


class Submission(NamedTuple):
    """The result of an accepted batch: accepted messages, and rejected ones as (message id, reason)."""

    accepted: int
    rejected: list[tuple[str, str]]


class CarrierError(Exception):
    """The carrier did not confirm the batch."""


class CarrierBusyError(CarrierError):
    """Not accepted: rate limit exceeded; `retry_after` in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CarrierUnavailableError(CarrierError):
    """Not accepted: no connection could be opened."""


class CarrierUnknownError(CarrierError):
    """Possibly accepted: the response was a server error, was invalid, or did not arrive."""


class CarrierRefusedError(CarrierError):
    """Not accepted, and not accepted later either."""


class Carrier(Protocol):
    """Submits batches of messages."""

    @property
    def idempotent(self) -> bool:
        """Whether a batch that is repeated with the same key reaches the phones once."""

    async def submit(self, key: str, messages: Sequence[Message]) -> Submission:
        """Submit a batch under an idempotency key. Raises one of the CarrierErrors."""

    async def close(self) -> None:
        """Close the connections."""
