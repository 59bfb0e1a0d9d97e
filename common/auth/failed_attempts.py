"""A brake on the guessing of keys, tokens and the like: per client address, counted and logged."""

import math
from ipaddress import IPv6Address, ip_address

import structlog
from prometheus_client import CollectorRegistry, Counter

from common.auth.token_buckets import TokenBuckets
from common.observability.logs import Throttle

log = structlog.get_logger()


class FailedAttempts:
    """Allows each client address `per_minute` wrong credentials a minute. A right one is never braked.

    `what` was wrong, in log lines, such as `API key`.
    """

    def __init__(self, per_minute: int, metrics: CollectorRegistry, what: str = "API key") -> None:
        self._buckets = TokenBuckets(per_minute / 60, per_minute)
        self._what = what
        self._may_log = Throttle()
        self._unlogged = 0
        self._count = Counter(
            "bulksms_wrong_credentials_total", "Requests with a wrong API key or token.", registry=metrics
        )

    def add(self, address: str) -> int:
        """Count a failure; return 0, or the seconds after which the address may fail again."""
        self._count.inc()
        self._unlogged += 1
        wait = math.ceil(self._buckets.take(_network(address)))
        if self._may_log():
            log.warning(f"wrong {self._what}", address=address, failures=self._unlogged, braked=wait > 0)
            self._unlogged = 0
        return wait


def _network(address: str) -> str:
    """The part of an address that one client cannot choose: of IPv6 the first 64 bits (RFC 4291, 2.5.4)."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(int(parsed) >> 64) if isinstance(parsed, IPv6Address) and not parsed.ipv4_mapped else str(parsed)
