"""The life of a process, from start to stop: connections, supervised tasks, serving, an ordered stop.

Each of the six processes has one Runtime, and is assembled with it in its `main.py` or worker module.
"""

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Protocol, TypeVar

import structlog

from common.broadcast import KrispBroadcast
from common.database import Database
from common.event_loop import new_event_loop
from common.jobs import JobQueue
from common.observability import heartbeat, logs, metrics, metrics_server, tracing
from common.observability.metrics import Refresh
from common.retry import wait_for
from common.settings import Settings, renamed
from common.supervisor import Supervisor, Work
from common.topology import SERVERS
from common.web.health import Dependency

log = structlog.get_logger()

FAILED = 70  # the exit code of a process whose background tasks cannot be kept running (EX_SOFTWARE of sysexits.h)

_LAST_WORK_TIMEOUT = 3.0  # seconds for work before the tasks end, such as writing accepted reports
_STOP_TIMEOUT = 9.0  # seconds from the signal to the end
_SERVERS = {server.name for server in SERVERS}  # the heartbeat sends their state


class _Closeable(Protocol):
    async def close(self) -> None: ...


class _Connection(_Closeable, Protocol):
    @property
    def address(self) -> str: ...

    async def check(self) -> None: ...


Owned = TypeVar("Owned", bound=_Closeable)
Needed = TypeVar("Needed", bound=_Connection)


class Runtime:
    """The connections, tasks and metrics of a process; they start and stop with the `async with` block."""

    def __init__(self, process: str, settings: Settings) -> None:
        logs.configure(settings.log_level, process)
        for old, new in renamed().items():
            log.warning("a setting has a new name; the old one will stop working", old=old, new=new)
        tracing.configure(settings.otel_exporter_otlp_endpoint, process)
        self.process = process
        self.settings = settings
        self.stopping = asyncio.Event()
        self.is_started = False
        self.registry = metrics.registry()
        self._supervisor = Supervisor()
        self.dependencies: dict[str, Dependency] = {"tasks": Dependency("this process", self._check_tasks)}
        self._owned: list[_Closeable] = []
        self._databases: list[Database] = []
        self._tasks: list[tuple[str, Work, bool]] = []
        self._last_work: list[Work] = []
        self.broadcast = self.own(KrispBroadcast.connect(settings.redis_url))

    # Assembly

    def own(self, connection: Owned) -> Owned:
        """Close this connection when the process stops."""
        self._owned.append(connection)
        return connection

    def need(self, name: str, connection: Needed) -> Needed:
        """Add a dependency under this name: `/ready` checks it, and it is closed when the process stops."""
        self.dependencies[name] = Dependency(connection.address, connection.check)
        return self.own(connection)

    def database(self, name: str, dsn: str) -> Database:
        """Add a database as a dependency; its pool opens at the start."""
        database = self.need(name, Database(name, dsn))
        self._databases.append(database)
        return database

    def pool(self, database: str, dsn: str, connections: int) -> Database:
        """Add a further connection pool for a database, for work that must not wait for that of others."""
        pool = self.own(Database(database, dsn, connections))
        self._databases.append(pool)
        return pool

    def jobs(self) -> JobQueue:
        """Add Redis as a dependency, and return the job queues to send to."""
        return self.need("redis", JobQueue.connect(self.settings.redis_url))

    def task(self, name: str, work: Work) -> None:
        """Run `work` as a supervised background task from the start to the stop."""
        self._tasks.append((name, work, False))

    def task_once(self, name: str, work: Work) -> None:
        """Run `work` as a supervised background task until it returns."""
        self._tasks.append((name, work, True))

    def at_stop(self, work: Work) -> None:
        """Run `work` when serving has ended, before tasks and connections are stopped."""
        self._last_work.append(work)

    def serve_metrics(self, port: int, refreshes: Sequence[Refresh] = ()) -> None:
        """Serve /metrics, /health and /ready, for a process that serves no other HTTP; port 0 disables it."""

        async def serve() -> None:
            host = self.settings.metrics_host
            await metrics_server.serve(host, port, self.registry, self.dependencies, refreshes)

        self.task_once("metrics server", serve)

    # Start and stop

    async def __aenter__(self) -> "Runtime":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self, first: Sequence[str] = ()) -> None:
        """Open the databases, start the tasks, and wait until the dependencies named in `first` answer."""
        for database in self._databases:
            await database.open()
        for name, dependency in self.dependencies.items():
            if name not in first:
                self._supervisor.start(f"waiting for {name}", partial(wait_for, name, *dependency), once=True)
        for name, work, once in self._tasks:
            self._supervisor.start(name, work, once=once)
        servers = {name: needed.check for name, needed in self.dependencies.items() if name in _SERVERS}
        self._supervisor.start("heartbeat", lambda: heartbeat.run(self.process, self.broadcast, servers))
        for name in first:
            await wait_for(name, *self.dependencies[name])
        self.is_started = True

    async def stop(self) -> None:
        """Run the last work, end the tasks, close the connections, in this order; never raises."""
        self.stopping.set()
        for work in self._last_work:
            try:
                async with asyncio.timeout(_LAST_WORK_TIMEOUT):
                    await work()
            except Exception as error:  # such as TimeoutError of a database that does not answer
                log.warning("the last work before the stop failed", reason=str(error) or type(error).__name__)
        await self._supervisor.stop()
        closing = (connection.close() for connection in reversed(self._owned))
        for result in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(result, Exception):
                log.warning("a connection could not be closed cleanly", reason=str(result))

    async def failed(self) -> None:
        """Wait until a background task cannot be kept running."""
        await self._supervisor.failed.wait()

    @property
    def has_failed(self) -> bool:
        return self._supervisor.failed.is_set()

    async def _check_tasks(self) -> None:
        self._supervisor.check()


Main = Callable[[Runtime], Awaitable[None]]


def run(process: str, settings: Settings, main: Main, *, use_uvloop: bool = True) -> None:
    """Run a service: `main` assembles it and serves until `runtime.stopping`, which SIGTERM and Ctrl-C set.

    Exits with the code FAILED if a background task could not be kept running.
    """
    # Imported modules are never garbage, so the collector skips them; thousands of requests in progress are not garbage
    # either, so it runs less often.
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    with asyncio.Runner(loop_factory=new_event_loop if use_uvloop else None) as runner:
        failed = runner.run(_run(process, settings, main))
    if failed:
        sys.exit(FAILED)


async def _run(process: str, settings: Settings, main: Main) -> bool:
    """Run `main`; return whether a background task has failed."""
    runtime = Runtime(process, settings)
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, runtime.stopping.set)
    serving = asyncio.ensure_future(main(runtime))
    watchers = [asyncio.create_task(runtime.stopping.wait()), asyncio.create_task(runtime.failed())]
    await asyncio.wait([serving, *watchers], return_when=asyncio.FIRST_COMPLETED)
    for watcher in watchers:
        watcher.cancel()
    runtime.stopping.set()
    if not serving.done():
        await asyncio.wait([serving], timeout=_STOP_TIMEOUT if runtime.is_started else 0)
    serving.cancel()
    with suppress(asyncio.CancelledError):
        await serving
    return runtime.has_failed
