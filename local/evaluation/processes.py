"""Which processes of this machine are the system, ours and the servers, and what they use.

They are found by their command lines, so it does not matter who has started them. Where several systems run on the
machine, the ports of the servers and the REDIS_URL that a process was given tell them apart.
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

# In the order of the plots: the same process has the same colour in all of them.
NAMES = (*(process.name for process in PROCESSES), *(server.program for server in SERVERS))

_COMMANDS = {" ".join(process.command): process.name for process in PROCESSES}
_PROGRAMS = {server.name: server.program for server in SERVERS}
_REDIS = re.compile(r"(?:valkey|redis)-server .*:(\d+)")
_POSTMASTER = re.compile(r"\S*postgres(?: |$)")  # its children are called `postgres: ...`
_PORT = re.compile(r" -p ?(\d+)")
_SETTLED = 2.0  # seconds after which a process is called what it will be called


class Usage(NamedTuple):
    """What processes of one name use: seconds of CPU since the first look, MB (of 10^6 bytes) of memory now."""

    cpu: float
    memory: float


class _Seen(NamedTuple):
    """A process of this machine; `name` if it is one of ours or Valkey."""

    process: psutil.Process
    command: str
    parent: int
    name: str | None


class Processes:
    """The processes of the system that `settings` describes, where they are on this machine."""

    def __init__(self, settings: Settings) -> None:
        self._redis_port = _redis_port(settings.redis_url)
        self._databases = {
            _PROGRAMS[DS]: urlsplit(settings.ds_dsn),
            _PROGRAMS[SALESDB]: urlsplit(settings.salesdb_dsn),
        }
        self._begun = time.time()
        self._seen: dict[psutil.Process, _Seen | None] = {}
        self._last: dict[psutil.Process, float] = {}
        self._cpu = dict.fromkeys(NAMES, 0.0)

    def usage(self) -> dict[str, Usage]:
        """What each is using, by its name."""
        return {name: self._usage(name, processes) for name, processes in self.find().items()}

    def _usage(self, name: str, processes: Iterable[psutil.Process]) -> Usage:
        """All of one name together; memory that they share, as PostgreSQL's do, is counted once."""
        own, shared = 0, 0
        for process in processes:
            try:
                with process.oneshot():
                    used, memory, born = _cpu(process), process.memory_info(), process.create_time()
            except psutil.Error:
                continue
            self._cpu[name] += max(0.0, used - self._last.get(process, 0.0 if born >= self._begun else used))
            self._last[process] = used
            of_others = getattr(memory, "shared", 0)  # Linux tells it
            own += memory.rss - of_others
            shared = max(shared, of_others)
        return Usage(self._cpu[name], (own + shared) / 1e6)

    def find(self) -> dict[str, list[psutil.Process]]:
        """The processes by name. Only those that are new are looked at: this runs at every sample."""
        settled = time.time() - _SETTLED
        self._seen = {
            process: seen
            if (seen := self._seen.get(process)) and process.create_time() < settled
            else self._look(process)
            for process in psutil.process_iter()
        }
        all_seen = [one for one in self._seen.values() if one]
        found: dict[str, list[psutil.Process]] = {}
        for one in all_seen:
            if one.name:
                found.setdefault(one.name, []).append(one.process)
            elif database := self._database(one, all_seen):
                children = [child.process for child in all_seen if child.parent == one.process.pid]
                found.setdefault(database, []).extend([one.process, *children])
        return {name: found[name] for name in NAMES if name in found}

    def _look(self, process: psutil.Process) -> _Seen | None:
        try:
            command = " ".join(process.cmdline()).rstrip()
            name = self._ours(process, command) or self._valkey(command)
            return _Seen(process, command, process.ppid(), name)
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

    def _database(self, one: _Seen, seen: Iterable[_Seen]) -> str | None:
        """Which database a PostgreSQL serves: by its port, in a container by what its children say they work on."""
        if not _POSTMASTER.match(one.command):
            return None
        port = _PORT.search(one.command)
        for name, dsn in self._databases.items():
            if port and int(port[1]) == (dsn.port or 5432):
                return name
            work = f" {dsn.path.strip('/')} "
            if not port and any(child.parent == one.process.pid and work in child.command for child in seen):
                return name
        return None


def _redis_port(url: str) -> int:
    return urlsplit(url).port or 6379


def _cpu(process: psutil.Process) -> float:
    """Seconds of CPU so far. Linux tells them to the nanosecond by thread; what psutil reads is in hundredths."""
    try:
        threads = Path(f"/proc/{process.pid}/task").iterdir()
        return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
    except OSError:
        times = process.cpu_times()
        return times.user + times.system
