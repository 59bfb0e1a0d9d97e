"""Jobs between the services: arq queues on Redis, with messages that are plain data.

Redis is only transport: the sender of a job keeps its content in a database, and sends it again until it is done.
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

from common import topology
from common.observability import tracing
from common.observability.counters import counters
from common.redis import REDIS_GONE, address
from common.web import request_id

_MAX_RUNNING = 1_000  # jobs of a queue that all its workers run at once

log = structlog.get_logger()

# redis-py's annotation allows only its own errors, but a refused connection reaches its retries as an OSError.
_RETRIED: Any = (RedisConnectionError, RedisTimeoutError, OSError, RuntimeError)


def encode(value: Any) -> bytes:
    """Encode a job for Redis. Not with pickle, arq's default: write access to Redis must not mean code execution."""
    return msgspec.msgpack.encode(value, enc_hook=repr)


decode = msgspec.msgpack.decode


class JobsUnavailableError(Exception):
    """Redis does not answer, or no worker has finished the job in time."""


class Waiting(NamedTuple):
    """The number of due jobs that no worker has started, and the age of the oldest in seconds."""

    jobs: int
    oldest: float


class JobQueue:
    """Sends jobs; a call fails within seconds if Redis does not answer."""

    def __init__(self, redis: ArqRedis, address: str) -> None:
        self.address = address
        self._redis = redis

    @classmethod
    def connect(cls, url: str) -> "JobQueue":
        """Create a queue on the Redis at `url`; it connects at first use."""
        return cls(_connect(url, topology.GENERAL_QUEUE, Retry(NoBackoff(), 1, _RETRIED)), address(url))

    async def send(self, queue: str, job: str, *args: Any, job_id: str | None = None) -> None:
        """Enqueue a job; with `job_id`, only if no job with this id is waiting or running there.

        Raises JobsUnavailableError.
        """
        counters[topology.job_sent(job)] += 1
        try:
            await self._redis.enqueue_job(job, *args, _queue_name=queue, _job_id=job_id or _new_id(), **_trace())
        except REDIS_GONE as error:
            raise JobsUnavailableError(f"redis does not answer: {error}") from error

    async def call(self, queue: str, job: str, *args: Any, timeout: float) -> Any:
        """Enqueue a job and wait up to `timeout` seconds for its result. Raises JobsUnavailableError."""
        counters[topology.job_sent(job)] += 1
        try:
            sent = await self._redis.enqueue_job(
                job, *args, _queue_name=queue, _job_id=_new_id(), _expires=timeout, **_trace()
            )
            assert sent is not None
            return await sent.result(timeout=timeout, poll_delay=0.02)
        except TimeoutError as error:
            raise JobsUnavailableError(f"no worker has finished {job} within {timeout:g} s") from error
        except REDIS_GONE as error:
            raise JobsUnavailableError(f"redis does not answer: {error}") from error

    async def waiting(self, queue: str) -> Waiting:
        """Count the due jobs of a queue that no worker has started. Raises RedisError or OSError."""
        now = time.time() * 1_000  # the score of a job is when it is due, in milliseconds
        due = await self._redis.zcount(queue, "-inf", now)
        first = await self._redis.zrangebyscore(queue, "-inf", now, start=0, num=_MAX_RUNNING, withscores=True)
        # A job stays in the queue while it runs, and the running ones are among the first.
        prefix = in_progress_key_prefix.encode()
        running = await self._redis.mget([prefix + job for job, _ in first]) if first else []
        idle = [due_at for (_, due_at), run in zip(first, running, strict=True) if run is None]
        return Waiting(due - (len(first) - len(idle)), (now - idle[0]) / 1_000 if idle else 0.0)

    async def check(self) -> None:
        """Raise if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


def worker_redis(url: str, queue: str) -> ArqRedis:
    """Create the connection of an arq worker: commands are retried until Redis answers, so the worker survives it."""
    return _connect(url, queue, Retry(_LoggedBackoff(address(url)), -1, _RETRIED))


class _LoggedBackoff(AbstractBackoff):
    """Exponential backoff that logs once that Redis does not answer."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._waits = ExponentialBackoff(cap=2, base=0.05)

    def compute(self, failures: int) -> float:
        if failures == 3:
            log.warning(f"waiting for redis at {self._address}")
        return float(self._waits.compute(failures))


class _Redis(ArqRedis):
    """ArqRedis that also retries when Redis goes away between a WATCH and the commands that depend on it."""

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
    """Create a job id: the id of the current request (or nothing), a dot, and a random part."""
    return f"{request_id.current()}.{uuid4().hex}"


def _trace() -> dict[str, Any]:
    """The keyword arguments that join a job to the current span; empty if there is none."""
    traceparent = tracing.traceparent()
    return {"traceparent": traceparent} if traceparent else {}
