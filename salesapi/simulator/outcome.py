"""The simulated outcome of a message, derived from the seed and the message id, so that it survives a restart."""

import struct
from hashlib import blake2b
from typing import NamedTuple

import msgspec


class NetworkModel(msgspec.Struct, kw_only=True):
    """The simulated network: shares from 0 to 1, mean latency in seconds."""

    failed: float
    undelivered: float
    duplicates: float
    swapped: float
    latency: float
    seed: int


class Report(NamedTuple):
    """The content of a report."""

    status: str
    error_code: str | None = None


class Outcome(NamedTuple):
    """The reports of a message in the order in which they are sent, and the delay in seconds before each."""

    reports: tuple[Report, ...]
    delay: float

    @property
    def reaches_phone(self) -> bool:
        """Whether the phone receives the message."""
        return self.reports[0] is not _FAILED


_SENT, _DELIVERED = Report("sent"), Report("delivered")
_FAILED = Report("failed", "unknown_subscriber")
_UNDELIVERED = Report("undelivered", "absent_subscriber")

_unpack = struct.Struct("<6I").unpack
_RANGE = 2.0**32


def decide_outcome(network: NetworkModel, message_id: str) -> Outcome:
    """The outcome of a message: six pseudo-random numbers are taken from a hash of seed and id."""
    numbers = _unpack(blake2b(f"{network.seed}:{message_id}".encode(), digest_size=24).digest())
    failed, undelivered, swapped, duplicate, which, delay = numbers
    if failed < network.failed * _RANGE:
        reports: tuple[Report, ...] = (_FAILED,)
    elif undelivered < network.undelivered * _RANGE:
        reports = (_SENT, _UNDELIVERED)
    else:
        reports = (_SENT, _DELIVERED)
    if swapped < network.swapped * _RANGE:
        reports = reports[::-1]
    if duplicate < network.duplicates * _RANGE:
        reports = (*reports, reports[which % len(reports)])
    return Outcome(reports, network.latency * (0.5 + delay / _RANGE))
