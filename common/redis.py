"""Connections to Redis, and the errors of calls while it does not answer."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

# RuntimeError is uvloop's, for a transport that was just closed; redis-py passes it on.
REDIS_GONE = (RedisError, OSError, RuntimeError)


def connect(url: str, *, connect_timeout: float = 2.0, timeout: float = 5.0) -> Redis:
    """Create a connection pool, which connects at first use; both timeouts are in seconds."""
    redis: Redis = Redis.from_url(
        url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, socket_keepalive=True
    )
    return redis


def address(url: str) -> str:
    """The address for logs: without user, password and options."""
    return urlsplit(url).netloc.rpartition("@")[2] or urlsplit(url).path
