"""The rate limit of an API key: a token bucket in Redis, shared by all processes of a service."""

import math
from uuid import UUID

from redis.asyncio import Redis

from common.redis import connect as connect_redis
from common.web.problems import Problem

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

    @classmethod
    def connect(cls, url: str, rate: float, burst: int) -> "Limiter":
        """Create a limiter on the Redis at `url`; a request waits at most half a second for it."""
        return cls(connect_redis(url, connect_timeout=0.5, timeout=0.5), rate, burst)

    async def take(self, key_id: UUID) -> None:
        """Take the token of one request. Raises Problem 429, and RedisError or OSError if Redis does not answer."""
        if not self._rate:
            return
        wait = float(await self._take(keys=[f"rate:{key_id}"], args=[self._rate, self._burst]))
        if wait > 0:
            raise Problem(
                429,
                "Too many requests",
                f"this key is limited to {self._rate:g} requests per second, {self._burst} in a burst; slow down",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    async def close(self) -> None:
        await self._redis.aclose()
