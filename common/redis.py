"""Connections to Redis, and what a call raises while it is not there."""

from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.exceptions import RedisError

# RuntimeError is uvloop's, of a transport that has closed in this very moment; redis-py passes it on.
REDIS_GONE = (RedisError, OSError, RuntimeError)


def connect(url: str, *, connect_timeout: float = 2.0, timeout: float = 5.0) -> Redis:
    """A pool of connections, opened at first use; both timeouts are in seconds."""
    redis: Redis = Redis.from_url(
        url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, socket_keepalive=True
    )
    return redis


def address(url: str) -> str:
    """Where it is, for logs: without user, password and options."""
    return urlsplit(url).netloc.rpartition("@")[2] or urlsplit(url).path
