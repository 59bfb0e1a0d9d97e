"""What a call raises while Redis is not there."""

from redis.exceptions import RedisError

# RuntimeError is uvloop's, of a transport that has closed in this very moment; redis-py passes it on.
REDIS_GONE = (RedisError, OSError, RuntimeError)
