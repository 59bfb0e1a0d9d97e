"""What becomes of a message in the simulator: decided by the seed and its id alone, so a restart changes nothing."""

import random
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
    """A report to come, `delay` seconds after the one before it."""

    status: str
    error_code: str | None
    delay: float


def fate(odds: Odds, message_id: str) -> list[Report]:
    """The reports of a message, in the order in which they go out."""
    digest = blake2b(f"{odds.seed}:{message_id}".encode(), digest_size=8).digest()
    dice = random.Random(int.from_bytes(digest))

    def report(status: str, error_code: str | None = None) -> Report:
        return Report(status, error_code, odds.latency * dice.uniform(0.5, 1.5))

    if dice.random() < odds.failed:
        reports = [report("failed", "unknown_subscriber")]
    elif dice.random() < odds.undelivered:
        reports = [report("sent"), report("undelivered", "absent_subscriber")]
    else:
        reports = [report("sent"), report("delivered")]
    if dice.random() < odds.swapped:
        reports.reverse()
    if dice.random() < odds.duplicates:
        again = dice.choice(reports)
        reports.append(again._replace(delay=odds.latency * 0.1))
    return reports


def leaves(reports: list[Report]) -> bool:
    """Whether the phone gets the message."""
    return all(report.status != "failed" for report in reports)
