"""Jobs between the services: arq queues on Redis, with messages that are plain data.

Redis is only transport. Whoever sends a job has its content in a database, and sends it again if nothing came of it.
"""

import time
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
import structlog
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.jobs import Job
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import AbstractBackoff, ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.exceptions import WatchError

from common.observability import tracing
from common.observability.counters import counts
from common.redis import REDIS_GONE, address
from common.web import request_id

GENERAL_QUEUE = "arq:general_queue"
SALES_QUEUE = "arq:sales_queue"

_MOST_RUNNING = 1_000  # jobs of a queue that all its workers may have begun

log = structlog.get_logger()

# OSError beside redis-py's own, against its annotation: a refused connection reaches its retries as that.
_RETRIED: Any = (RedisConnectionError, RedisTimeoutError, OSError, RuntimeError)


def encode(value: Any) -> bytes:
    """A job as it stands in Redis. Not pickle, arq's default: who can write to Redis must not run code here."""
    return msgspec.msgpack.encode(value, enc_hook=repr)


decode = msgspec.msgpack.decode


class JobsUnavailableError(Exception):
    """Redis does not answer, or no worker has done the job in time."""


class Waiting(NamedTuple):
    """Jobs that are due and not begun, and the seconds that the first of them has waited."""

    jobs: int
    oldest: float


class JobQueue:
    """Sends jobs, from a process that cannot wait for Redis: a call fails within seconds if it is gone."""

    def __init__(self, redis: ArqRedis, address: str) -> None:
        self.address = address
        self._redis = redis

    @classmethod
    def connect(cls, url: str) -> "JobQueue":
        """A queue on the Redis at `url`; connects at first use."""
        return cls(_connect(url, GENERAL_QUEUE, Retry(NoBackoff(), 1, _RETRIED)), address(url))

    async def send(self, queue: str, job: str, *args: Any, job_id: str | None = None) -> None:
        """Put a job into a queue; with `job_id`, only if that one is not waiting or running there.

        Raises JobsUnavailableError.
        """
        counts[f"job {job}"] += 1
        try:
            await self._redis.enqueue_job(job, *args, _queue_name=queue, _job_id=job_id or _new_id(), **_trace())
        except REDIS_GONE as error:
            raise JobsUnavailableError(f"redis does not answer: {error}") from error

    async def call(self, queue: str, job: str, *args: Any, timeout: float) -> Any:
        """Send a job and wait up to `timeout` seconds for what it returns. Raises JobsUnavailableError."""
        counts[f"job {job}"] += 1
        try:
            sent = await self._redis.enqueue_job(
                job, *args, _queue_name=queue, _job_id=_new_id(), _expires=timeout, **_trace()
            )
            assert sent is not None
            return await sent.result(timeout=timeout, poll_delay=0.02)
        except TimeoutError as error:
            raise JobsUnavailableError(f"no worker has done {job} within {timeout:g} s") from error
        except REDIS_GONE as error:
            raise JobsUnavailableError(f"redis does not answer: {error}") from error

    async def waiting(self, queue: str) -> Waiting:
        """The jobs of a queue that are due and that no worker has begun. Raises RedisError, OSError."""
        now = time.time() * 1_000  # the score of a job is when it is due, in milliseconds
        due = await self._redis.zcount(queue, "-inf", now)
        first = await self._redis.zrangebyscore(queue, "-inf", now, start=0, num=_MOST_RUNNING, withscores=True)
        # A job stays in the queue while it runs, and those that run are among the first.
        prefix = in_progress_key_prefix.encode()
        running = await self._redis.mget([prefix + job for job, _ in first]) if first else []
        idle = [due_at for (_, due_at), run in zip(first, running, strict=True) if run is None]
        return Waiting(due - (len(first) - len(idle)), (now - idle[0]) / 1_000 if idle else 0.0)

    async def check(self) -> None:
        """Raise if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


def patient_redis(url: str, queue: str) -> ArqRedis:
    """The connection of an arq worker: every command waits for Redis as long as it takes, so the worker outlives it."""
    return _connect(url, queue, Retry(_LoggedBackoff(address(url)), -1, _RETRIED))


class _LoggedBackoff(AbstractBackoff):
    """Waits longer from failure to failure, and logs once that Redis is not there."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._waits = ExponentialBackoff(cap=2, base=0.05)

    def compute(self, failures: int) -> float:
        if failures == 3:
            log.warning(f"waiting for redis at {self._address}")
        return float(self._waits.compute(failures))


class _Redis(ArqRedis):
    """ArqRedis that also tries again when Redis goes away between its WATCH and what depends on it."""

    async def enqueue_job(self, *args: Any, **options: Any) -> Job | None:
        while True:
            try:
                return await super().enqueue_job(*args, **options)
            except WatchError:
                continue


def _connect(url: str, queue: str, retry: Retry) -> ArqRedis:
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        retry=retry,
        retry_on_error=list(_RETRIED),
        socket_timeout=5,
        socket_connect_timeout=2,
        socket_keepalive=True,
    )
    return _Redis(pool_or_conn=pool, job_serializer=encode, job_deserializer=decode, default_queue_name=queue)


def _new_id() -> str:
    """A new job's id: that of the request it is sent for (or nothing), a dot, and what makes it the only one."""
    return f"{request_id.current()}.{uuid4().hex}"


def _trace() -> dict[str, Any]:
    """What a job is given beside its arguments: the span in which it was sent, if there is one."""
    traceparent = tracing.traceparent()
    return {"traceparent": traceparent} if traceparent else {}
