"""The processes of the system on this machine, ours and the servers, and their CPU and memory.

They are found by their command lines, however they were started. Several systems on one machine are distinguished by
the ports of their servers and the REDIS_URL of their processes.
"""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psutil

from common.settings import Settings
from common.topology import DS, PROCESSES, REDIS, SALESDB, SERVERS

# In the order of the plots, so that a process has the same colour in all of them.
NAMES = (*(process.name for process in PROCESSES), *(server.program for server in SERVERS))

_COMMANDS = {" ".join(process.command): process.name for process in PROCESSES}
_PROGRAMS = {server.name: server.program for server in SERVERS}
_REDIS = re.compile(r"(?:valkey|redis)-server .*:(\d+)")
_POSTMASTER = re.compile(r"\S*postgres(?: |$)")  # its children are called `postgres: ...`
_PORT = re.compile(r" -p ?(\d+)")
_SETTLE_TIME = 2.0  # seconds after which a process no longer changes its command line


class Usage(NamedTuple):
    """Resource use of the processes of one name: CPU seconds since the first sample, memory in MB (10^6 bytes)."""

    cpu: float
    memory: float


class _Process(NamedTuple):
    """A process of this machine; it has a `name` if it is one of ours or Valkey."""

    process: psutil.Process
    command: str
    parent: int
    name: str | None


class Processes:
    """Finds the processes of the system with these `settings` on this machine."""

    def __init__(self, settings: Settings) -> None:
        self._redis_port = _redis_port(settings.redis_url)
        self._databases = {
            _PROGRAMS[DS]: urlsplit(settings.ds_dsn),
            _PROGRAMS[SALESDB]: urlsplit(settings.salesdb_dsn),
        }
        self._started_at = time.time()
        self._seen: dict[psutil.Process, _Process | None] = {}
        self._last: dict[psutil.Process, float] = {}
        self._cpu = dict.fromkeys(NAMES, 0.0)

    def usage(self) -> dict[str, Usage]:
        """The resource use by process name."""
        return {name: self._usage(name, processes) for name, processes in self.find().items()}

    def _usage(self, name: str, processes: Iterable[psutil.Process]) -> Usage:
        """Add up the processes of one name; shared memory, as of PostgreSQL, is counted once."""
        own, shared = 0, 0
        for process in processes:
            try:
                with process.oneshot():
                    used, memory, created_at = _cpu(process), process.memory_info(), process.create_time()
            except psutil.Error:
                continue
            self._cpu[name] += max(0.0, used - self._last.get(process, 0.0 if created_at >= self._started_at else used))
            self._last[process] = used
            shared_part = getattr(memory, "shared", 0)  # only on Linux
            own += memory.rss - shared_part
            shared = max(shared, shared_part)
        return Usage(self._cpu[name], (own + shared) / 1e6)

    def find(self) -> dict[str, list[psutil.Process]]:
        """Find the processes by name. Only new processes are inspected, since this runs for every sample."""
        settled = time.time() - _SETTLE_TIME
        self._seen = {
            process: seen
            if (seen := self._seen.get(process)) and process.create_time() < settled
            else self._inspect(process)
            for process in psutil.process_iter()
        }
        known = [process for process in self._seen.values() if process]
        by_name: dict[str, list[psutil.Process]] = {}
        for candidate in known:
            if candidate.name:
                by_name.setdefault(candidate.name, []).append(candidate.process)
            elif database := self._database(candidate, known):
                children = [child.process for child in known if child.parent == candidate.process.pid]
                by_name.setdefault(database, []).extend([candidate.process, *children])
        return {name: by_name[name] for name in NAMES if name in by_name}

    def _inspect(self, process: psutil.Process) -> _Process | None:
        try:
            command = " ".join(process.cmdline()).rstrip()
            name = self._ours(process, command) or self._valkey(command)
            return _Process(process, command, process.ppid(), name)
        except psutil.Error:
            return None

    def _ours(self, process: psutil.Process, command: str) -> str | None:
        name = next((name for ending, name in _COMMANDS.items() if command.endswith(ending)), None)
        if name is None:
            return None
        try:
            redis_url = process.environ().get("REDIS_URL")
        except psutil.Error:
            redis_url = None
        is_of_another_system = redis_url is not None and _redis_port(redis_url) != self._redis_port
        return None if is_of_another_system else name

    def _valkey(self, command: str) -> str | None:
        match = _REDIS.search(command)
        return _PROGRAMS[REDIS] if match and int(match[1]) == self._redis_port else None

    def _database(self, server: _Process, processes: Iterable[_Process]) -> str | None:
        """The database of a PostgreSQL server: by its port, or in a container by its children's command lines."""
        if not _POSTMASTER.match(server.command):
            return None
        port = _PORT.search(server.command)
        for name, dsn in self._databases.items():
            if port and int(port[1]) == (dsn.port or 5432):
                return name
            work = f" {dsn.path.strip('/')} "
            if not port and any(child.parent == server.process.pid and work in child.command for child in processes):
                return name
        return None


def _redis_port(url: str) -> int:
    return urlsplit(url).port or 6379


def _cpu(process: psutil.Process) -> float:
    """CPU seconds so far. Linux counts nanoseconds for each thread; psutil has only hundredths of a second."""
    try:
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except OSError:
        times = process.cpu_times()
        return times.user + times.system
