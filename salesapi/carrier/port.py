"""The carrier as the sales worker sees it: what it is given, what it answers, and how it can fail.

To add a carrier, write a class with these three members, and raise these errors: the difference between "surely not
taken" and "nobody knows" decides whether a batch may be sent again.
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
    """A batch that was accepted, less the messages in it that were rejected, each with a reason."""

    accepted: int
    rejected: list[tuple[str, str]]


class CarrierError(Exception):
    """The batch was not answered with an acceptance."""


class CarrierBusyError(CarrierError):
    """Not taken: the carrier wants less, or later; `retry_after` in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class CarrierUnavailableError(CarrierError):
    """Not taken: there was no connection to send it over."""


class CarrierUnknownError(CarrierError):
    """Taken or not, nobody knows: the answer was an error of theirs, broken, or did not come."""


class CarrierRefusedError(CarrierError):
    """Not taken, and never will be."""


class Carrier(Protocol):
    """Takes batches of messages."""

    @property
    def idempotent(self) -> bool:
        """Whether a batch sent again under the same key reaches the phones once."""

    async def submit(self, key: str, messages: Sequence[Message]) -> Submission:
        """Hand over a batch. Raises one of the CarrierErrors."""

    async def close(self) -> None:
        """Give up the connections."""
