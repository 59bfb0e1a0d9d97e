"""How many requests a key may make: a token bucket in Redis, which all processes of a service share."""

import math
from uuid import UUID

from redis.asyncio import Redis

from common.redis import connect as connect_redis
from common.web.problems import Problem

# One call, so that no two requests take the same token. Redis's clock: ours may differ between machines.
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
    """`rate` requests a second for each key, and `burst` at once; a rate of 0 is no limit."""

    def __init__(self, redis: Redis, rate: float, burst: int) -> None:
        self._redis = redis
        self._rate = rate
        self._burst = burst
        self._take = redis.register_script(_TAKE)

    @classmethod
    def connect(cls, url: str, rate: float, burst: int) -> "Limiter":
        """A limiter on the Redis at `url`, for which a request waits half a second at most."""
        return cls(connect_redis(url, connect_timeout=0.5, timeout=0.5), rate, burst)

    async def take(self, key_id: UUID) -> None:
        """One request of this key. Raises Problem 429, and RedisError or OSError if Redis does not answer."""
        if not self._rate:
            return
        wait = float(await self._take(keys=[f"rate:{key_id}"], args=[self._rate, self._burst]))
        if wait > 0:
            raise Problem(
                429,
                "Too many requests",
                f"this key may make {self._rate:g} requests a second, {self._burst} at once; slow down",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    async def close(self) -> None:
        await self._redis.aclose()
