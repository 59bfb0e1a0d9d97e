"""The launcher of the whole system: servers, migrations, sample data, services, workers, carrier."""

import json
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

from common.redact import without_passwords
from common.running import FILE as SERVERS_FILE
from common.settings import HOME, ROOT, Settings, host_and_port, shipped
from common.topology import DS, PROCESSES, SALESDB, Process
from local.passwords import write_private
from local.ports import free_port, is_port_taken
from local.servers import (
    MIGRATOR,
    EmbeddedPostgres,
    EmbeddedValkey,
    Server,
    dies_with_parent,
    is_answering,
    psql,
)

_READY_TIMEOUT = 60.0  # seconds
_STOP_TIMEOUT = 10.0  # seconds
_START_ATTEMPTS = 5  # while a port is taken by another program
_START_MARK = "--- "  # in a log, before the lines of each start
_MAX_SERVER_ENDS = 5  # unexpected ends of embedded servers within the window
_SERVER_WINDOW = 60.0  # seconds


class SystemFailedError(Exception):
    """A process did not start or has ended; the message has the end of its log."""


class PortTakenError(SystemFailedError):
    """A process has ended because another program took its port."""


class Part(NamedTuple):
    """One of our processes, and its sign of readiness: a URL that answers 200, a listening address, or a log line."""

    name: str
    command: list[str]
    url: str = ""
    address: str = ""
    line: str = ""


def parts(settings: Settings, copies: Mapping[str, int] | None = None) -> list[Part]:
    """The processes of the system; `copies`: the number of processes by name, where it is not 1."""
    single = [_part(process, settings) for process in PROCESSES]
    numbered = [
        part._replace(name=f"{part.name}-{number}")
        for part in single
        for number in range(2, (copies or {}).get(part.name, 1) + 1)
    ]
    return single + numbered


def _part(process: Process, settings: Settings) -> Part:
    """A worker logs that it is ready, since its metrics port may be disabled; rpc listens once it is ready."""
    program, *arguments = process.command
    if program == "arq":
        command = [str(Path(sys.executable).with_name("arq")), *arguments]
        return Part(process.name, command, line=f"{process.name.replace('_', ' ')} is ready")
    command = [sys.executable, str(ROOT / program), *arguments]
    if process.metrics_on:
        return Part(process.name, command, address=process.address(settings))
    return Part(process.name, command, f"{process.metrics_url(settings)}/ready")


class System:
    """Starts all servers and processes that are not configured elsewhere, and stops them.

    `configured`: names of the settings that the user has set; servers at such addresses are used, not started.
    `environ`: environment of the processes beside the addresses. `copies`: the number of processes by name.
    `say`: called with a line for each step.
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
        self._base_environ = dict(os.environ if environ is None else environ)
        self._seed = seed
        self._servers_only = servers_only
        self._copies = copies
        self._say = say
        self._has_written_addresses = False
        self._server_ends: deque[float] = deque(maxlen=_MAX_SERVER_ENDS)

    def __enter__(self) -> "System":
        try:
            self.start_servers()
            self.migrate()
            if not self._servers_only:
                if not self.settings.callback_secrets:
                    self._configure(callback_secrets=secrets.token_hex(32))
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
        """The environment of our processes: the base environment, and all addresses."""
        addresses = {
            name.upper(): str(getattr(self.settings, name))
            for name in (
                "ds_dsn", "salesdb_dsn", "redis_url", "webapi_port", "salesapi_port", "rpc_address", "carrier_url",
                "callback_url", "callback_secrets", "salesapi_url", "dashboard_origins", "rpc_metrics_port",
                "general_metrics_port", "sales_metrics_port", "data_dir",
            )
        }  # fmt: skip
        return {**self._base_environ, **addresses, "PYTHONUNBUFFERED": "1"}

    @property
    def parts(self) -> list[Part]:
        return parts(self.settings, self._copies)

    @property
    def log_dir(self) -> Path:
        return self.settings.data_path / "logs"

    def start_servers(self) -> None:
        """Start the servers that are not configured elsewhere."""
        data = self.settings.data_path
        if "DS_DSN" not in self._configured:
            self.ds = self._postgres(data / "ds", self.settings.ds_dsn, "ds")
            self._configure(ds_dsn=self.ds.dsn_of(MIGRATOR))
        if "SALESDB_DSN" not in self._configured:
            self.salesdb = self._postgres(data / "salesdb", self.settings.salesdb_dsn, "salesdb")
            self._configure(salesdb_dsn=self.salesdb.dsn_of(MIGRATOR))
        if "REDIS_URL" not in self._configured:
            self.valkey = EmbeddedValkey(data / "valkey", host_and_port(self.settings.redis_url)[1] or 6379)
            self.valkey.start()
            self._say(f"Valkey on 127.0.0.1:{self.valkey.port}")
            self._configure(redis_url=self.valkey.url)

        embedded = {
            name: getattr(self.settings, name.lower())
            for name, server in (("DS_DSN", self.ds), ("SALESDB_DSN", self.salesdb), ("REDIS_URL", self.valkey))
            if server is not None
        }
        if embedded:
            write_private(data / SERVERS_FILE, json.dumps({"launcher": os.getpid(), **embedded}))
            self._has_written_addresses = True

    def _postgres(self, folder: Path, dsn: str, database: str) -> EmbeddedPostgres:
        server = EmbeddedPostgres(folder, host_and_port(dsn)[1] or 5432, database)
        server.start()
        self._say(f"PostgreSQL {database} on 127.0.0.1:{server.port}")
        return server

    def migrate(self) -> None:
        """Migrate both databases, and load the sample data if it is missing."""
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
                raise SystemFailedError(f"the migrations of {domain} failed:\n{without_passwords(output[-2000:])}")
        if self._seed:
            psql(self.settings.ds_dsn, shipped("ds_dump.sql"))
            psql(self.settings.salesdb_dsn, shipped("salesdb_dump.sql"))

    def start(self) -> None:
        """Start our processes and wait until all are ready."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        for part in self.parts:
            self._start(part)
        for part in self.parts:
            self._wait(part)
        self.check()

    def _start_on_free_ports(self) -> None:
        """Start our processes; if another program takes a port before ours binds it, retry on other ports."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._choose_ports()
            try:
                self.start()
                return
            except PortTakenError:
                if attempt == _START_ATTEMPTS:
                    raise
                self.stop_processes()

    def _choose_ports(self) -> None:
        """Choose another port where ours is taken."""
        settings = self.settings
        self._configure(webapi_port=free_port(settings.webapi_port), salesapi_port=free_port(settings.salesapi_port))
        rpc_host, rpc_port = host_and_port(settings.rpc_address)
        self._configure(rpc_address=f"{rpc_host}:{free_port(rpc_port)}")
        for name in ("rpc_metrics_port", "general_metrics_port", "sales_metrics_port"):
            if port := getattr(settings, name):
                self._configure(**{name: free_port(port)})
        if "CARRIER_URL" not in self._configured:
            self._configure(carrier_url=f"http://127.0.0.1:{free_port(host_and_port(settings.carrier_url)[1])}")
        if "CALLBACK_URL" not in self._configured:
            self._configure(callback_url=f"http://127.0.0.1:{self.settings.salesapi_port}/callback")
        if "SALESAPI_URL" not in self._configured:
            self._configure(salesapi_url=f"http://127.0.0.1:{self.settings.salesapi_port}")
        if "DASHBOARD_ORIGINS" not in self._configured:
            port = self.settings.webapi_port
            self._configure(dashboard_origins=f"http://localhost:{port} http://127.0.0.1:{port}")

    def _configure(self, **values: str | int) -> None:
        self.settings = msgspec.structs.replace(self.settings, **values)

    def _start(self, part: Part, environ: Mapping[str, str] | None = None) -> None:
        with self._log(part.name).open("ab") as log:
            log.write(f"{_START_MARK}{part.name} starts\n".encode())
            self.processes[part.name] = subprocess.Popen(
                part.command,
                cwd=HOME,
                env={**self.environ, **self._databases(part.name), **(environ or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=0o077,
                preexec_fn=dies_with_parent(signal.SIGTERM),
            )

    def _databases(self, name: str) -> dict[str, str]:
        """The DSNs of a process's own role, on embedded servers; nothing of those that it does not use.

        A configured address is one user's, for all processes.
        """
        process = next(each for each in PROCESSES if name.rpartition("-")[0] == each.name or name == each.name)
        servers = (("DS_DSN", DS, self.ds), ("SALESDB_DSN", SALESDB, self.salesdb))
        return {
            setting: server.dsn_of(process.name) if needed in process.needs else ""
            for setting, needed, server in servers
            if server is not None
        }

    def _log(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def _logged(self, name: str) -> str:
        """The log of a process since its last start."""
        return self._log(name).read_text(errors="replace").rpartition(_START_MARK)[2]

    def _wait(self, part: Part) -> None:
        deadline = time.monotonic() + _READY_TIMEOUT
        while not self._ready(part):
            self.check()
            if time.monotonic() > deadline:
                raise SystemFailedError(
                    f"{part.name} is not ready after {_READY_TIMEOUT:g} s:\n{self._log_tail(part.name)}"
                )
            time.sleep(0.05)
        address = part.url.removesuffix("/ready").removesuffix("/health") or part.address
        self._say(f"{part.name}{' on ' + address if address else ''}")

    def _ready(self, part: Part) -> bool:
        if part.url:
            try:
                with urllib.request.urlopen(part.url, timeout=3) as response:
                    return bool(response.status == 200)
            except (URLError, OSError):
                return False
        if part.address:
            return is_answering(*host_and_port(part.address))
        return part.line in self._logged(part.name)

    def check(self) -> None:
        """Raise SystemFailedError if a process has ended; restart a server that has ended.

        Raises EmbeddedError if it does not start, and SystemFailedError if servers end repeatedly.
        """
        for server in (self.ds, self.salesdb, self.valkey):
            if server is not None and (code := server.ended) is not None:
                self._restart_server(server, code)
        for name, process in self.processes.items():
            if process.poll() is not None:
                tail = self._log_tail(name)
                failure = PortTakenError if is_port_taken(tail) else SystemFailedError
                raise failure(f"{name} ended with code {process.returncode}:\n{tail}")

    def _restart_server(self, server: Server, code: int) -> None:
        self._server_ends.append(time.monotonic())
        if len(self._server_ends) == _MAX_SERVER_ENDS and time.monotonic() - self._server_ends[0] < _SERVER_WINDOW:
            raise SystemFailedError(
                f"{server.name} keeps ending, most recently with code {code}: see {server.log_file}"
            )
        port = server.port
        server.start()
        if server.port != port:
            raise SystemFailedError(f"{server.name} ended with code {code}, and its port {port} is taken")
        self._say(f"{server.name} ended with code {code} and was restarted; its log is {server.log_file}")

    def _log_tail(self, name: str) -> str:
        """The last lines of a process's log since its last start."""
        return "\n".join(self._logged(name).splitlines()[-15:])

    def kill(self, name: str) -> None:
        """Kill a process, as in a crash."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def restart(self, name: str, **environ: str) -> None:
        """Start a process that was stopped, and wait until it is ready."""
        self.spawn(name, **environ)
        self._wait(self._part(name))

    def spawn(self, name: str, **environ: str) -> None:
        """Start a process that was stopped; `environ` is for this process only."""
        self._start(self._part(name), environ)

    def is_ready(self, name: str) -> bool:
        """Whether a process is ready. Raises SystemFailedError if it has ended."""
        self.check()
        return self._ready(self._part(name))

    def _part(self, name: str) -> Part:
        return next(part for part in self.parts if part.name == name)

    def stop_processes(self) -> list[str]:
        """Terminate our processes; kill those that take longer than 10 s, and return their names."""
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
        """Stop all processes and servers that were started."""
        self.stop_processes()
        if self._has_written_addresses:
            (self.settings.data_path / SERVERS_FILE).unlink(missing_ok=True)
        for server in (self.valkey, self.ds, self.salesdb):
            if server is not None:
                server.stop()
