"""Token buckets in the memory of one process, for a bounded number of owners."""

import time
from collections import OrderedDict
from collections.abc import Hashable

_MAX_OWNERS = 10_000


class TokenBuckets:
    """Gives each owner `rate` tokens a second, and up to `burst` at once.

    At most `owners` are remembered: the one that was not seen for longest starts again with a full bucket.
    """

    def __init__(self, rate: float, burst: float, owners: int = _MAX_OWNERS) -> None:
        self._rate = rate
        self._burst = burst
        self._owners = owners
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # tokens, and when (monotonic)

    def take(self, owner: Hashable) -> float:
        """Take a token; return 0, or the seconds until there is one."""
        now = time.monotonic()
        tokens, at = self._buckets.get(owner, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        wait = 0.0 if tokens >= 1 else (1 - tokens) / self._rate
        self._buckets[owner] = (tokens if wait else tokens - 1, now)
        self._buckets.move_to_end(owner)
        if len(self._buckets) > self._owners:
            self._buckets.popitem(last=False)
        return wait
