"""What becomes of a message in the simulator: decided by the seed and its id alone, so a restart changes nothing."""

import struct
from hashlib import blake2b
from typing import NamedTuple

import msgspec


class Odds(msgspec.Struct, kw_only=True):
    """How the simulated network behaves; shares from 0 to 1, latency in seconds (a mean)."""

    failed: float
    undelivered: float
    duplicates: float
    swapped: float
    latency: float
    seed: int


class Report(NamedTuple):
    """What a report says."""

    status: str
    error_code: str | None = None


class Fate(NamedTuple):
    """The reports of a message in the order in which they go out, and the seconds before each of them."""

    reports: tuple[Report, ...]
    delay: float

    @property
    def leaves(self) -> bool:
        """Whether the phone gets the message."""
        return self.reports[0] is not _FAILED


_SENT, _DELIVERED = Report("sent"), Report("delivered")
_FAILED = Report("failed", "unknown_subscriber")
_UNDELIVERED = Report("undelivered", "absent_subscriber")

_dice = struct.Struct("<6I").unpack
_FACES = 2.0**32


def fate(odds: Odds, message_id: str) -> Fate:
    """The fate of a message: six dice are thrown for it, whose values are the hash of seed and id."""
    dice = _dice(blake2b(f"{odds.seed}:{message_id}".encode(), digest_size=24).digest())
    failed, undelivered, swapped, duplicate, which, delay = dice
    if failed < odds.failed * _FACES:
        reports: tuple[Report, ...] = (_FAILED,)
    elif undelivered < odds.undelivered * _FACES:
        reports = (_SENT, _UNDELIVERED)
    else:
        reports = (_SENT, _DELIVERED)
    if swapped < odds.swapped * _FACES:
        reports = reports[::-1]
    if duplicate < odds.duplicates * _FACES:
        reports = (*reports, reports[which % len(reports)])
    return Fate(reports, odds.latency * (0.5 + delay / _FACES))
