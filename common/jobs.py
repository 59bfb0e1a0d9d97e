"""Jobs between the services: arq queues on Redis, with messages that are plain data.

Redis is only transport. Whoever sends a job has what it tells in a database, and sends it again if nothing came of it.
"""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import uuid4

import msgspec
import structlog
import uvloop
from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix
from arq.jobs import Job
from arq.typing import WorkerCoroutine
from arq.worker import Worker
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import AbstractBackoff, ExponentialBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.exceptions import WatchError

from common import topology
from common.observability import tracing
from common.observability.counters import counters
from common.redis import REDIS_GONE
from common.web import request_id

_LONGEST_STOP = 8  # seconds from SIGTERM to the end of a worker
_MOST_RUNNING = 1_000  # jobs of a queue that all its workers may have begun

log = structlog.get_logger()

T = TypeVar("T")

# OSError beside redis-py's own, against its annotation: a refused connection reaches its retries as that.
_GONE: Any = (RedisConnectionError, RedisTimeoutError, OSError, RuntimeError)


def _encode(value: Any) -> bytes:
    # Not pickle, arq's default: who can write to Redis must not be able to run code here.
    return msgspec.msgpack.encode(value, enc_hook=repr)


_decode = msgspec.msgpack.decode

# What WorkerSettings must say for the two sides of a queue to understand each other.
serializer = _encode
deserializer = _decode


class _ToldBackoff(AbstractBackoff):
    """Waits longer from failure to failure, and says once that Redis is not there."""

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


async def _start_jobs(worker: Worker, job_ids: list[bytes]) -> None:
    """Worker.start_jobs, which ends the worker if Redis goes away between a WATCH and what depends on it.

    By then it has taken a place for the job that it did not start: give that back, the next look finds the job again.
    """
    try:
        await _arq_start_jobs(worker, job_ids)
    except WatchError:
        worker.job_counter -= 1
        worker.sem.release()


def _handle_sig(worker: Worker, signum: signal.Signals) -> None:
    """Worker.handle_sig, heard for certain, and with an end to it: a worker that stops must not wait for Redis long.

    Nothing is lost by the alarm: what a worker had not finished is in the databases, and found again.
    """
    signal.alarm(_LONGEST_STOP)
    _arq_handle_sig(worker, signum)
    _insist(worker)


def _insist(worker: Worker) -> None:
    """Cancel the worker's main task until it has ended.

    asyncio.wait_for, in which redis-py sends its commands, loses a cancellation that comes in the moment in which it is
    done (before Python 3.12, https://github.com/python/cpython/issues/86296): the worker would go on as if never told.
    """
    if worker.main_task is not None and not worker.main_task.done():
        worker.main_task.cancel()
        worker.loop.call_later(0.1, _insist, worker)


_arq_handle_sig = Worker.handle_sig
Worker.handle_sig = _handle_sig  # type: ignore[assignment]  # as below
_arq_start_jobs = Worker.start_jobs
Worker.start_jobs = _start_jobs  # type: ignore[assignment]  # the arq command makes the Worker


def use_uvloop() -> None:
    """Make uvloop the loop that the arq command will run its worker on; a worker's module calls this."""
    asyncio.set_event_loop(uvloop.new_event_loop())


def worker_redis(url: str, queue: str) -> ArqRedis:
    """The connection of an arq worker: every command waits for Redis as long as it takes, so the worker outlives it."""
    return _connect(url, queue, Retry(_ToldBackoff(_address(url)), -1, _GONE))


def _address(url: str) -> str:
    """The URL without its password."""
    return url.rpartition("@")[2].removeprefix("redis://")


def _connect(url: str, queue: str, retry: Retry) -> ArqRedis:
    pool: ConnectionPool = ConnectionPool.from_url(
        url,
        retry=retry,
        retry_on_error=list(_GONE),
        socket_timeout=5,
        socket_connect_timeout=2,
        socket_keepalive=True,
    )
    return _Redis(pool_or_conn=pool, job_serializer=serializer, job_deserializer=deserializer, default_queue_name=queue)


def _job_id() -> str:
    """A new job's id: that of the request it is sent for (or nothing), a dot, and what makes it the only one."""
    return f"{request_id.current()}.{uuid4().hex}"


async def begin_job(ctx: dict[str, Any]) -> None:
    """For a worker's `on_job_start`: the job is counted, and what it logs belongs to the request that sent it."""
    counters[topology.JOBS] += 1
    request_id.bind(ctx["job_id"].partition(".")[0])


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
        return cls(_connect(url, topology.GENERAL_QUEUE, Retry(NoBackoff(), 1, _GONE)), _address(url))

    async def send(self, queue: str, job: str, *args: Any, job_id: str | None = None) -> None:
        """Put a job into a queue; with `job_id`, only if that one is not waiting or running there.

        Raises JobsUnavailableError.
        """
        counters[topology.job_sent(job)] += 1
        try:
            await self._redis.enqueue_job(job, *args, _queue_name=queue, _job_id=job_id or _job_id(), **_trace())
        except REDIS_GONE as error:
            raise JobsUnavailableError(f"redis does not answer: {error}") from error

    async def call(self, queue: str, job: str, *args: Any, timeout: float) -> Any:
        """Send a job and wait up to `timeout` seconds for what it returns. Raises JobsUnavailableError."""
        counters[topology.job_sent(job)] += 1
        try:
            sent = await self._redis.enqueue_job(
                job, *args, _queue_name=queue, _job_id=_job_id(), _expires=timeout, **_trace()
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
        running = await self._redis.mget([in_progress_key_prefix + job.decode() for job, _ in first]) if first else []
        idle = [due_at for (_, due_at), run in zip(first, running, strict=True) if run is None]
        return Waiting(due - (len(first) - len(idle)), (now - idle[0]) / 1_000 if idle else 0.0)

    async def check(self) -> None:
        """Raise if Redis does not answer."""
        await self._redis.ping()

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)


def _trace() -> dict[str, Any]:
    """What a job is given beside its arguments: the span in which it was sent, if there is one."""
    traceparent = tracing.traceparent()
    return {"traceparent": traceparent} if traceparent else {}


def traced(job: WorkerCoroutine) -> WorkerCoroutine:
    """A job for a worker's functions, which takes what `JobQueue` gives it: its work is a span under its sender's."""

    @wraps(job)
    async def run(ctx: dict[str, Any], *args: Any, traceparent: str | None = None) -> Any:
        with tracing.span(job.__qualname__, parent=traceparent) if traceparent else nullcontext():
            return await job(ctx, *args)

    return run


class Gathering(Generic[T]):
    """Hands items on together: what comes first at once, what comes within the next `period` seconds as one.

    What it still holds when the process ends is gone: only for items that a database holds as well.
    """

    def __init__(self, send: Callable[[list[T]], Awaitable[None]], *, period: float, most: int = 1_000) -> None:
        self._send = send
        self._period = period
        self._most = most
        self._items: list[T] = []
        self._wake = asyncio.Event()

    def add(self, items: Sequence[T]) -> None:
        """Hand these on soon, at most `most` at once."""
        self._items += items
        self._wake.set()

    async def run(self) -> None:
        """Hand on until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._items:
                taken, self._items = self._items[: self._most], self._items[self._most :]
                try:
                    await self._send(taken)
                except Exception as error:
                    log.error("not handed on, a database holds them as well", items=len(taken), exc_info=error)
            await asyncio.sleep(self._period)


def every(seconds: int) -> set[int]:
    """The seconds of a minute at which a cron job of this period runs."""
    return set(range(0, 60, seconds))
