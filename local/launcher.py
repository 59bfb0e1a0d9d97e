"""The whole system as processes of one command: servers, migrations, seed, services, workers, carrier."""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple
from urllib.error import URLError

import msgspec

from common.settings import HOME, ROOT, Settings, host_and_port, shipped
from common.topology import PROCESSES, Process
from local.ports import free_port, is_taken
from local.servers import (
    EmbeddedPostgres,
    EmbeddedValkey,
    Server,
    answers,
    dies_with_parent,
    psql,
)

_READY_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds
_START_ATTEMPTS = 5  # as long as a port is taken by another program
_START_MARK = "--- "  # in a log, before the lines of each start
_MOST_SERVER_ENDS = 5  # of embedded servers that end by themselves, within the window
_SERVER_WINDOW = 60.0  # seconds


class SystemFailedError(Exception):
    """A part did not come up or has ended; the message holds its last words."""


class PortTakenError(SystemFailedError):
    """A process has ended because another program took its port."""


class Part(NamedTuple):
    """One of our processes, and how to see that it is ready: a URL that answers 200, an address that is listened on,
    or a line in its log."""

    name: str
    command: list[str]
    url: str = ""
    address: str = ""
    line: str = ""


def parts(settings: Settings, copies: Mapping[str, int] | None = None) -> list[Part]:
    """The processes of the system; `copies`: how many of those of which there is to be more than one."""
    made = [_part(process, settings) for process in PROCESSES]
    for part in made.copy():
        made += [part._replace(name=f"{part.name}-{n}") for n in range(2, (copies or {}).get(part.name, 1) + 1)]
    return made


def _part(process: Process, settings: Settings) -> Part:
    """A worker says in its log that it is ready, since its metrics may be switched off; rpc listens when it is."""
    program, *arguments = process.command
    if program == "arq":
        command = [str(Path(sys.executable).with_name("arq")), *arguments]
        return Part(process.name, command, line=f"{process.name.replace('_', ' ')} is ready")
    command = [sys.executable, str(ROOT / program), *arguments]
    if process.metrics_on:
        return Part(process.name, command, address=process.address(settings))
    return Part(process.name, command, f"{process.metrics_url(settings)}/ready")


class System:
    """Starts everything that is not configured to be elsewhere, and ends all of it.

    `configured`: names of settings whose address the user has given; the servers behind those are used, not started.
    `environ`: what the processes get beside the addresses. `copies`: how many processes of a part, by its name.
    `say`: told each step in a line.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        configured: set[str],
        environ: Mapping[str, str] | None = None,
        seed: bool = True,
        servers_only: bool = False,
        copies: Mapping[str, int] | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.settings = settings
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ds: EmbeddedPostgres | None = None
        self.salesdb: EmbeddedPostgres | None = None
        self.valkey: EmbeddedValkey | None = None
        self._configured = configured
        self._given = dict(os.environ if environ is None else environ)
        self._seed = seed
        self._servers_only = servers_only
        self._copies = copies
        self._say = say
        self._server_ends: deque[float] = deque(maxlen=_MOST_SERVER_ENDS)

    def __enter__(self) -> "System":
        try:
            self.start_servers()
            self.migrate()
            if not self._servers_only:
                if not self.settings.callback_secrets:
                    self._move(callback_secrets=secrets.token_hex(32))
                self._start_on_free_ports()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def environ(self) -> dict[str, str]:
        """The environment of our processes: what was given, and where the parts are."""
        addresses = {
            name.upper(): str(getattr(self.settings, name))
            for name in (
                "ds_dsn", "salesdb_dsn", "redis_url", "webapi_port", "salesapi_port", "rpc_address", "carrier_url",
                "callback_url", "callback_secrets", "salesapi_url", "dashboard_origins", "rpc_metrics_port",
                "general_metrics_port", "sales_metrics_port", "data_dir",
            )
        }  # fmt: skip
        return {**self._given, **addresses, "PYTHONUNBUFFERED": "1"}

    @property
    def parts(self) -> list[Part]:
        return parts(self.settings, self._copies)

    @property
    def log_dir(self) -> Path:
        return self.settings.data_path / "logs"

    def start_servers(self) -> None:
        """Start the servers that are not configured to be elsewhere."""
        data = self.settings.data_path
        if "DS_DSN" not in self._configured:
            self.ds = self._postgres(data / "ds", self.settings.ds_dsn, "ds")
            self._move(ds_dsn=self.ds.dsn)
        if "SALESDB_DSN" not in self._configured:
            self.salesdb = self._postgres(data / "salesdb", self.settings.salesdb_dsn, "salesdb")
            self._move(salesdb_dsn=self.salesdb.dsn)
        if "REDIS_URL" not in self._configured:
            self.valkey = EmbeddedValkey(data / "valkey", host_and_port(self.settings.redis_url)[1] or 6379)
            self.valkey.start()
            self._say(f"Valkey on {self.valkey.url}")
            self._move(redis_url=self.valkey.url)

    def _postgres(self, folder: Path, dsn: str, database: str) -> EmbeddedPostgres:
        server = EmbeddedPostgres(folder, host_and_port(dsn)[1] or 5432, database)
        server.start()
        self._say(f"PostgreSQL {database} on 127.0.0.1:{server.port}")
        return server

    def migrate(self) -> None:
        """Bring both databases to the newest schema, and load the sample data where they have none."""
        alembic = [sys.executable, "-m", "alembic", "upgrade", "heads"]
        runs = {
            domain: subprocess.Popen(
                alembic, cwd=ROOT / domain, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            for domain in ("workspace", "bulksms")
        }
        for domain, run in runs.items():
            output = run.communicate()[0].decode(errors="replace")
            if run.returncode:
                raise SystemFailedError(f"the migrations of {domain} failed:\n{output[-2000:]}")
        if self._seed:
            psql(self.settings.ds_dsn, shipped("ds_dump.sql"))
            psql(self.settings.salesdb_dsn, shipped("salesdb_dump.sql"))

    def start(self) -> None:
        """Start our processes, and return when all are ready."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        for part in self.parts:
            self._start(part)
        for part in self.parts:
            self._wait(part)
        self.check()

    def _start_on_free_ports(self) -> None:
        """Start our processes; where another program takes a port before ours binds it, once more on other ports."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._take_ports()
            try:
                self.start()
                return
            except PortTakenError:
                if attempt == _START_ATTEMPTS:
                    raise
                self.stop_processes()

    def _take_ports(self) -> None:
        """Move to other ports where ours are taken."""
        settings = self.settings
        self._move(webapi_port=free_port(settings.webapi_port), salesapi_port=free_port(settings.salesapi_port))
        rpc_host, rpc_port = host_and_port(settings.rpc_address)
        self._move(rpc_address=f"{rpc_host}:{free_port(rpc_port)}")
        for name in ("rpc_metrics_port", "general_metrics_port", "sales_metrics_port"):
            if port := getattr(settings, name):
                self._move(**{name: free_port(port)})
        if "CARRIER_URL" not in self._configured:
            self._move(carrier_url=f"http://127.0.0.1:{free_port(host_and_port(settings.carrier_url)[1])}")
        if "CALLBACK_URL" not in self._configured:
            self._move(callback_url=f"http://127.0.0.1:{self.settings.salesapi_port}/callback")
        if "SALESAPI_URL" not in self._configured:
            self._move(salesapi_url=f"http://127.0.0.1:{self.settings.salesapi_port}")
        if "DASHBOARD_ORIGINS" not in self._configured:
            port = self.settings.webapi_port
            self._move(dashboard_origins=f"http://localhost:{port} http://127.0.0.1:{port}")

    def _move(self, **addresses: str | int) -> None:
        self.settings = msgspec.structs.replace(self.settings, **addresses)

    def _start(self, part: Part, environ: Mapping[str, str] | None = None) -> None:
        with self._log(part.name).open("ab") as log:
            log.write(f"{_START_MARK}{part.name} starts\n".encode())
            self.processes[part.name] = subprocess.Popen(
                part.command,
                cwd=HOME,
                env={**self.environ, **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )

    def _log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _logged(self, name: str) -> str:
        """What a process has logged since its start."""
        return self._log(name).read_text(errors="replace").rpartition(_START_MARK)[2]

    def _wait(self, part: Part) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT
        while not self._ready(part):
            self.check()
            if time.monotonic() > deadline:
                raise SystemFailedError(
                    f"{part.name} is not ready after {_READY_TIMEOUT:g} s:\n{self._words(part.name)}"
                )
            time.sleep(0.05)
        where = part.url.removesuffix("/ready").removesuffix("/health") or part.address
        self._say(f"{part.name}{' on ' + where if where else ''}")

    def _ready(self, part: Part) -> bool:
        if part.url:
            try:
                with urllib.request.urlopen(part.url, timeout=3) as answer:
                    return bool(answer.status == 200)
            except (URLError, OSError):
                return False
        if part.address:
            return answers(*host_and_port(part.address))
        return part.line in self._logged(part.name)

    def check(self) -> None:
        """Raise SystemFailedError if a process has ended by itself; start a server again that has.

        Raises EmbeddedError if it does not start, and SystemFailedError if it ends again and again.
        """
        for server in (self.ds, self.salesdb, self.valkey):
            if server is not None and (code := server.ended) is not None:
                self._start_again(server, code)
        for name, process in self.processes.items():
            if process.poll() is not None:
                words = self._words(name)
                failure = PortTakenError if is_taken(words) else SystemFailedError
                raise failure(f"{name} ended with code {process.returncode}:\n{words}")

    def _start_again(self, server: Server, code: int) -> None:
        self._server_ends.append(time.monotonic())
        if len(self._server_ends) == _MOST_SERVER_ENDS and time.monotonic() - self._server_ends[0] < _SERVER_WINDOW:
            raise SystemFailedError(
                f"{server.name} ended again and again, at last with code {code}: see {server.log_file}"
            )
        port = server.port
        server.start()
        if server.port != port:
            raise SystemFailedError(f"{server.name} ended with code {code}, and its port {port} is taken")
        self._say(f"{server.name} had ended with code {code} and was started again; its log is {server.log_file}")

    def _words(self, name: str) -> str:
        """The end of what a process has logged since its start."""
        return "\n".join(self._logged(name).splitlines()[-15:])

    def kill(self, name: str) -> None:
        """End a process as a crash would."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def restart(self, name: str, **environ: str) -> None:
        """Start a process that was ended, and return when it is ready."""
        self.spawn(name, **environ)
        self._wait(self._part(name))

    def spawn(self, name: str, **environ: str) -> None:
        """Start a process that was ended; `environ` is for this one alone."""
        self._start(self._part(name), environ)

    def is_ready(self, name: str) -> bool:
        """Whether a process is ready. Raises SystemFailedError if it has ended."""
        self.check()
        return self._ready(self._part(name))

    def _part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def stop_processes(self) -> list[str]:
        """End our processes in good order; kill what takes longer than 10 s, and return which that were."""
        killed = []
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + _STOP_TIMEOUT
        for name, process in self.processes.items():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"{name} did not stop in {_STOP_TIMEOUT:g} s and was killed")
                process.kill()
                process.wait()
                killed.append(name)
        self.processes.clear()
        return killed

    def stop(self) -> None:
        """End everything that was started."""
        self.stop_processes()
        for server in (self.valkey, self.ds, self.salesdb):
            if server is not None:
                server.stop()
