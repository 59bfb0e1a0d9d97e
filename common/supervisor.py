"""Supervision of the background tasks of a process: a failed task is logged, counted and restarted with backoff.

A task that keeps failing ends the process, which is not ready from then on.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import structlog

from common.observability.counters import count_failure
from common.retry import backoff

log = structlog.get_logger()

Work = Callable[[], Awaitable[None]]

_MAX_FAILURES = 6  # of one task within the window
_WINDOW = 60.0  # seconds


class TaskFailedError(Exception):
    """A background task is not running; the message has its name and the reason."""


class Supervisor:
    """Runs named tasks until `stop`; `failed` is set when one of them cannot be kept running.

    With `gives_up=False` it restarts its tasks however often they fail.
    """

    def __init__(self, *, gives_up: bool = True) -> None:
        self.failed = asyncio.Event()
        self._gives_up = gives_up
        self._tasks: list[asyncio.Task[None]] = []
        self._down: dict[str, str] = {}  # the reason, by the name of each task that is not running

    def start(self, name: str, work: Work, *, once: bool = False) -> None:
        """Run `work` until `stop`; restart it if it fails. Returning is a failure too, except with `once`."""
        self._tasks.append(asyncio.create_task(self._keep_running(name, work, once), name=name))

    def check(self) -> None:
        """Raise TaskFailedError if a task is not running."""
        for name, reason in self._down.items():
            raise TaskFailedError(f"the background task {name} has failed: {reason}")

    async def stop(self) -> None:
        """Cancel every task and wait until all have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_running(self, name: str, work: Work, once: bool) -> None:
        failures: deque[float] = deque(maxlen=_MAX_FAILURES)
        waits = backoff()
        while True:
            try:
                await work()
                if once:
                    return
                reason = "it returned before the process stopped"
                log.error("a background task returned", task=name)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise  # cancelled by `stop`; any other cancellation is a failure of the work
                reason = "something that it awaited was cancelled"
                log.error("a background task was cancelled by its own work", task=name)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                log.error("a background task failed", task=name, exc_info=error)
            count_failure("task", name)
            now = time.monotonic()
            if failures and now - failures[-1] > _WINDOW:
                waits = backoff()
            failures.append(now)
            self._down[name] = reason
            if self._gives_up and len(failures) == _MAX_FAILURES and now - failures[0] < _WINDOW:
                log.critical("the process stops: a background task cannot be kept running", task=name, reason=reason)
                self.failed.set()
                return
            await asyncio.sleep(next(waits))
            del self._down[name]
