"""The rate limit of the simulated carrier."""

import time


class RateLimitError(Exception):
    """The rate limit is exceeded; `retry_after` in seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"rate limit exceeded, retry after {retry_after:.2f} s")
        self.retry_after = retry_after


class RateLimit:
    """A token bucket of `mps` messages a second, 0 for no limit; a batch may overdraw it, the next one is refused."""

    def __init__(self, mps: int) -> None:
        self.mps = mps
        self._tokens = float(mps)
        self._updated_at = time.monotonic()

    def take(self, messages: int) -> None:
        """Take tokens for a batch. Raises RateLimitError."""
        if not self.mps:
            return
        now = time.monotonic()
        self._tokens = min(float(self.mps), self._tokens + (now - self._updated_at) * self.mps)
        self._updated_at = now
        if self._tokens <= 0:
            raise RateLimitError((1 - self._tokens) / self.mps)
        self._tokens -= messages
