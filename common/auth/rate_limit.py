"""The rate limit of an API key: a token bucket in Redis, shared by all processes of a service.

Without Redis each process applies the limit on its own.
"""

import math

import structlog
from redis.asyncio import Redis

from common.auth.principal import Principal
from common.auth.token_buckets import TokenBuckets
from common.observability.logs import Throttle
from common.redis import REDIS_GONE
from common.redis import connect as connect_redis
from common.web.problems import Problem, unavailable

log = structlog.get_logger()

# A script is atomic: no two requests take the same token. It uses Redis's clock, since clocks of machines differ.
_TAKE = """
    local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
    local clock = redis.call('TIME')
    local now = clock[1] + clock[2] / 1000000
    local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
    local passed = math.max(0, now - (tonumber(bucket[2]) or now))
    local tokens = math.min(burst, (tonumber(bucket[1]) or burst) + passed * rate)
    local wait = 0
    if tokens >= 1 then tokens = tokens - 1 else wait = (1 - tokens) / rate end
    redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', string.format('%.6f', now))
    redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
    return tostring(wait)
"""


class Limiter:
    """Allows each key `rate` requests per second and a burst of `burst`; a rate of 0 means no limit."""

    def __init__(self, redis: Redis, rate: float, burst: int) -> None:
        self._redis = redis
        self._rate = rate
        self._burst = burst
        self._take = redis.register_script(_TAKE)
        self._own = TokenBuckets(rate, burst)
        self._may_log = Throttle()

    @classmethod
    def connect(cls, url: str, rate: float, burst: int) -> "Limiter":
        """Create a limiter on the Redis at `url`; a request waits at most half a second for it."""
        return cls(connect_redis(url, connect_timeout=0.5, timeout=0.5), rate, burst)

    async def take(self, principal: Principal, *, strict: bool = False) -> None:
        """Take the token of one request or WebSocket message. Raises Problem 429.

        `strict`: raises Problem 503 while Redis does not answer.
        """
        if not self._rate or principal.key_id is None:
            return
        try:
            wait = float(await self._take(keys=[f"rate:{principal.key_id}"], args=[self._rate, self._burst]))
        except REDIS_GONE as error:
            if strict:
                raise unavailable("the rate limit cannot be checked right now") from None
            if self._may_log():
                reason = str(error) or type(error).__name__
                log.warning("each process limits the rate of requests on its own", reason=reason)
            wait = self._own.take(principal.key_id)
        if wait > 0:
            raise Problem(
                429,
                "Too many requests",
                f"this key is limited to {self._rate:g} requests per second, {self._burst} in a burst; slow down",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    async def close(self) -> None:
        await self._redis.aclose()
