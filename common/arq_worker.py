"""arq's worker, hardened against unreadable data in Redis and against Redis restarts.

The only module that touches arq's internals. The methods replaced here are those of arq 0.28.0: compare them before
upgrading. docs/adr says what would replace arq.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from inspect import signature
from typing import Any, NamedTuple, get_type_hints

import arq.worker
import msgspec
import structlog
from arq.constants import job_key_prefix
from arq.typing import WorkerCoroutine
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.event_loop import new_event_loop
from common.jobs import decode
from common.money import Credits, read_credits
from common.observability import logs, tracing
from common.observability.counters import count_failure, counters
from common.observability.logs import Throttle
from common.runtime import FAILED, Runtime
from common.topology import JOBS
from common.web import request_id

if arq.VERSION != "0.28.0":
    raise ImportError(f"common/arq_worker.py replaces methods of arq 0.28.0, not of {arq.VERSION}: compare them first")

_STOP_TIMEOUT = 8  # seconds from SIGTERM to the end of a worker
_POLL_AGAIN = 0.2  # seconds

# What passes by the retries of the connection, such as a server that ends a connection while it is being opened.
REDIS_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)

log = structlog.get_logger()

_may_log = Throttle()


class _StoredJob(NamedTuple):
    """A job as arq writes it: function, arguments, keyword arguments, try, time of enqueueing in milliseconds."""

    f: str
    a: list[Any]
    k: dict[str, Any]
    t: int | None
    et: int


def decode_job(data: bytes) -> Any:
    """Decode a job or a result, and check that each member of a job has the type that arq relies on.

    Raises ValueError or msgspec.MsgspecError; arq then fails the job.
    """
    decoded = decode(data)
    if isinstance(decoded, dict) and "f" in decoded and "s" not in decoded:  # only a result has "s", its success
        try:
            msgspec.convert([decoded.get(name) for name in _StoredJob._fields], _StoredJob)
        except msgspec.ValidationError:
            count_failure("queue", "job that cannot be read")
            raise
    return decoded


async def _poll_iteration(worker: Worker) -> None:
    """Run Worker._poll_iteration, which ends the worker if Redis ends a new connection, or the key is no sorted set."""
    try:
        await _arq_poll_iteration(worker)
    except REDIS_AWAY as error:
        if _may_log():
            log.warning("redis does not answer, polling again", reason=str(error) or type(error).__name__)
        await asyncio.sleep(_POLL_AGAIN)
    except ResponseError as error:
        if "WRONGTYPE" not in str(error):
            raise
        count_failure("queue", "not a queue")
        log.error("deleted a key of the wrong type under the queue's name", queue=worker.queue_name, reason=str(error))
        await worker.pool.delete(worker.queue_name)


async def _run_job(worker: Worker, job_id: str, score: int) -> None:
    """Run Worker.run_job, whose error would end the worker, and drop a job that cannot be run."""
    try:
        await _arq_run_job(worker, job_id, score)
    except REDIS_AWAY as error:
        log.warning("a job stays in its queue until redis answers again", job_id=job_id, reason=str(error))
    except Exception as error:
        count_failure("queue", "job that cannot be run")
        log.error("dropped a job that cannot be run", queue=worker.queue_name, job_id=job_id, exc_info=error)
        await _drop(worker, job_id.encode())


async def _start_jobs(worker: Worker, job_ids: list[bytes]) -> None:
    """Run Worker.start_jobs, which ends the worker if an id is not valid UTF-8, or Redis goes away after its WATCH.

    After a failed WATCH, release the slot of the job that was not started: the next poll finds the job again.
    """
    readable = []
    for job_id in job_ids:
        try:
            job_id.decode()
        except UnicodeDecodeError:
            count_failure("queue", "member that is no job id")
            if _may_log():
                log.error("dropped a member of the queue that is not a valid job id", queue=worker.queue_name)
            await _drop(worker, job_id)
        else:
            readable.append(job_id)
    try:
        await _arq_start_jobs(worker, readable)
    except (WatchError, *REDIS_AWAY) as error:
        worker.job_counter -= 1
        worker.sem.release()
        if not isinstance(error, WatchError):
            raise


async def _drop(worker: Worker, job_id: bytes) -> None:
    await worker.pool.zrem(worker.queue_name, job_id)
    await worker.pool.delete(job_key_prefix.encode() + job_id)


def _handle_sig(worker: Worker, signum: signal.Signals) -> None:
    """Run Worker.handle_sig with a time limit: a stopping worker must not wait long for Redis.

    The alarm loses nothing: unfinished work is in the databases and is picked up again.
    """
    signal.alarm(_STOP_TIMEOUT)
    _arq_handle_sig(worker, signum)
    if sys.version_info < (3, 12):
        _cancel_until_done(worker)


def _cancel_until_done(worker: Worker) -> None:
    """Cancel the worker's main task until it has ended.

    Before Python 3.12, asyncio.wait_for (which redis-py uses) loses a cancellation that arrives at the moment when it
    completes (https://github.com/python/cpython/issues/86296), and the worker would keep running.
    """
    if worker.main_task is not None and not worker.main_task.done():
        worker.main_task.cancel()
        worker.loop.call_later(0.1, _cancel_until_done, worker)


async def _log_redis_info(redis: Redis, log_func: Callable[[str], Any]) -> None:
    """In place of arq's log line about the server at the start, which ends the worker if Redis is not there yet."""


_arq_handle_sig, _arq_start_jobs = Worker.handle_sig, Worker.start_jobs
_arq_run_job, _arq_poll_iteration = Worker.run_job, Worker._poll_iteration
# The arq command creates the Worker, so the class itself is patched.
setattr(arq.worker, "log_redis_info", _log_redis_info)  # noqa: B010
Worker.handle_sig = _handle_sig  # type: ignore[assignment]
Worker.start_jobs = _start_jobs  # type: ignore[assignment]
Worker.run_job = _run_job  # type: ignore[assignment]
Worker._poll_iteration = _poll_iteration  # type: ignore[assignment]


class _Options(msgspec.Struct, forbid_unknown_fields=True):
    """The keyword arguments of a job."""

    traceparent: str | None = None


def job(work: WorkerCoroutine) -> WorkerCoroutine:
    """Decorate a job function: check its arguments, count it, and join its log lines and its span to its request.

    The arguments are converted to the types of the function's parameters, as those of a request are. A job whose
    arguments do not fit is dropped, counted and logged: whoever can write to Redis must not be able to do more.
    """
    parameters = _parameters(work)

    @wraps(work)
    async def run(ctx: dict[str, Any], *args: Any, **options: Any) -> Any:
        counters[JOBS] += 1
        request_id.bind(ctx["job_id"].partition(".")[0])
        try:
            arguments = msgspec.convert(args, parameters, dec_hook=_read)
            traceparent = msgspec.convert(options, _Options).traceparent
        except msgspec.ValidationError as error:
            count_failure("queue", "job with invalid arguments")
            if _may_log():
                log.error("dropped a job with invalid arguments", job=work.__qualname__, reason=str(error)[:200])
            return None
        with tracing.span(work.__qualname__, parent=traceparent) if traceparent else nullcontext():
            try:
                return await work(ctx, *arguments)
            except Exception:  # arq logs it
                count_failure("job", work.__qualname__)
                raise

    return run


def _parameters(work: WorkerCoroutine) -> Any:
    """The type of a job's arguments, a tuple: all parameters of the function after the context."""
    hints = get_type_hints(work, include_extras=True)
    return tuple[tuple(hints[name] for name in list(signature(work).parameters)[1:])]  # type: ignore[misc]


def _read(kind: type, value: Any) -> Any:
    """Convert an argument of a type that msgspec does not know."""
    if kind is Credits and isinstance(value, str):
        return read_credits(value)
    raise ValueError(f"Expected `str`, got `{type(value).__name__}`")


def every(seconds: int) -> set[int]:
    """The seconds of a minute at which a cron job with this period (seconds) runs."""
    return set(range(0, 60, seconds))


def use_uvloop() -> None:
    """Set uvloop as the loop on which the arq command runs its worker; called by each worker module."""
    asyncio.set_event_loop(new_event_loop())


async def start(ctx: dict[str, Any], runtime: Runtime, first: Sequence[str]) -> None:
    """Implement a worker's `on_startup`: start the runtime and wait for the dependencies in `first`."""
    ctx["runtime"] = runtime
    await runtime.start(first)
    ctx["failing"] = asyncio.create_task(_end_on_failure(runtime))
    logs.ready(runtime.process.replace("_", " "))


async def _end_on_failure(runtime: Runtime) -> None:
    """Stop the worker when a background task cannot be kept running."""
    await runtime.failed()
    os.kill(os.getpid(), signal.SIGTERM)


async def stop(ctx: dict[str, Any]) -> None:
    """Implement a worker's `on_shutdown`: stop the runtime; exit with FAILED if a background task has failed."""
    runtime: Runtime = ctx["runtime"]
    await runtime.stop()
    if runtime.has_failed:
        sys.exit(FAILED)
