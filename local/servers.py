"""PostgreSQL and Valkey as child processes on loopback, for root and for ordinary users.

Their data stays in its folder. They end with the process that started them, even if it is killed. Start them from the
main thread: the kernel ends a child when the thread that forked it ends.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from local.binaries import EmbeddedError, has_pg_library, pg_bin, valkey_server
from local.ports import free_port, is_port_taken
from local.server_user import open_folders_to, server_user

_HOST = "127.0.0.1"
_START_TIMEOUT = 30.0  # seconds; recovery after a crash takes time
_START_ATTEMPTS = 5  # while the port is taken

_POSTGRES_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "jit": "off",
}


def psql(dsn: str, script: Path) -> None:
    """Run a script with psql. Raises EmbeddedError with psql's message."""
    command = [str(pg_bin("psql")), dsn, "-v", "ON_ERROR_STOP=1", "-qX", "-f", str(script)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EmbeddedError(f"psql could not load {script.name}: {done.stderr.strip()}")


def dies_with_parent(signum: int) -> Callable[[], None] | None:
    """For `preexec_fn`: send the child a signal when the thread that forked it ends. Linux only."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, set_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_death_signal, signum)


class Server:
    """A server process that can be started, stopped, killed, and restarted on the same port."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._has_run = False  # then others know its port
        self._log_start = 0

    @property
    def ended(self) -> int | None:
        """The exit code if it has ended without `stop` or `kill`; else None."""
        return None if self.process is None else self.process.poll()

    @property
    def log_file(self) -> Path:
        return self.data_dir.with_name(self.data_dir.name + ".log")

    def start(self) -> None:
        """Start the server and wait until it answers; the first time on another port if its own is taken.

        Raises EmbeddedError.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._prepare()
            if not self._has_run:
                self.port = free_port(self.port)
            self._launch()
            if self._wait_for_answer():
                self._has_run = True
                return
            self.kill()
            if attempt == _START_ATTEMPTS or not is_port_taken(self._log_tail()):
                raise EmbeddedError(f"{self.name} did not start:\n{self._log_tail()}")

    def _launch(self) -> None:
        user, group = self._user or (None, None)
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self.process = subprocess.Popen(
                self._command(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C must not reach the server: we stop it in order
                preexec_fn=dies_with_parent(self.stop_signal),
                user=user,
                group=group,
            )

    def _wait_for_answer(self) -> bool:
        """Wait until the server answers; False if it has ended, or takes too long."""
        assert self.process is not None
        deadline = time.monotonic() + _START_TIMEOUT
        while self.process.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.02)
        return False

    def stop(self, signum: int | None = None, timeout: float = 15.0) -> None:
        """Stop the server; kill it if that takes too long."""
        if self.process is None:
            return
        self.process.send_signal(signum or self.stop_signal)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _prepare(self) -> None:
        """Prepare the data folder."""

    def _command(self) -> list[str]:
        raise NotImplementedError

    @property
    def _user(self) -> tuple[int, int] | None:
        """User id and group id of the server, if they are not ours."""
        return None

    def _answers(self) -> bool:
        raise NotImplementedError

    def _log_tail(self) -> str:
        """The last lines of its log since its start."""
        logged = self.log_file.read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join(logged.splitlines()[-15:])


class EmbeddedPostgres(Server):
    """PostgreSQL with durable settings; the user `postgres` needs no password on loopback."""

    stop_signal = signal.SIGINT  # fast shutdown: PostgreSQL does not wait for its clients

    def __init__(self, data_dir: Path, port: int, database: str) -> None:
        super().__init__(data_dir, port)
        self.database = database
        self.name = f"PostgreSQL {database}"

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres:postgres@{_HOST}:{self.port}/{self.database}"

    def start(self) -> None:
        super().start()
        self._sql(
            f"SELECT 'CREATE DATABASE {self.database}' WHERE NOT EXISTS "
            f"(SELECT FROM pg_database WHERE datname = '{self.database}')\\gexec\n"
        )

    def crash(self) -> None:
        """Stop the server in immediate mode: no checkpoint, recovery at the next start."""
        self.stop(signal.SIGQUIT)

    def _prepare(self) -> None:
        user = self._user
        if user:
            open_folders_to(self.data_dir)
            open_folders_to(pg_bin("postgres"))
            os.chown(self.data_dir, *user)
        self.data_dir.chmod(0o700)
        self._refuse_if_running()
        if not (self.data_dir / "PG_VERSION").exists():
            options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions"]
            command = [str(pg_bin("initdb")), "-D", str(self.data_dir), *options]
            uid, gid = user or (None, None)
            done = subprocess.run(command, capture_output=True, text=True, cwd="/", user=uid, group=gid)
            if done.returncode:
                raise EmbeddedError(f"initdb failed: {done.stderr.strip()}")

    def _refuse_if_running(self) -> None:
        pid_file = self.data_dir / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text().split()[0])
        command_line = Path(f"/proc/{pid}/cmdline")
        # After a crash the file has the id of a process that is gone, or that is not a server of this folder.
        if command_line.exists() and str(self.data_dir).encode() in command_line.read_bytes():
            raise EmbeddedError(
                f"another command runs {self.name} on {self.data_dir} (process {pid}): stop it first, "
                "or set DATA_DIR to another folder"
            )
        pid_file.unlink()

    def _command(self) -> list[str]:
        settings = [f"--{name}={value}" for name, value in _POSTGRES_SETTINGS.items()]
        if has_pg_library("pg_stat_statements"):
            settings.append("--shared_preload_libraries=pg_stat_statements")
        return [str(pg_bin("postgres")), "-D", str(self.data_dir), "-p", str(self.port), *settings]

    @property
    def _user(self) -> tuple[int, int] | None:
        return server_user()

    def _answers(self) -> bool:
        # This server, not one of another command on the same port; pg_ctl checks the same lines.
        assert self.process is not None
        with contextlib.suppress(OSError):
            lines = (self.data_dir / "postmaster.pid").read_text().split("\n")
            return lines[0] == str(self.process.pid) and lines[7:8] == ["ready   "]
        return False

    def _sql(self, script: str) -> None:
        command = [str(pg_bin("psql")), "-qX", "-v", "ON_ERROR_STOP=1", self.dsn.rpartition("/")[0] + "/postgres"]
        done = subprocess.run(command, input=script, capture_output=True, text=True)
        if done.returncode:
            raise EmbeddedError(f"{self.name}: {done.stderr.strip()}")


class EmbeddedValkey(Server):
    """Valkey without persistence, since Redis is only transport."""

    name = "Valkey"

    @property
    def url(self) -> str:
        return f"redis://{_HOST}:{self.port}"

    def _command(self) -> list[str]:
        options = {"bind": _HOST, "port": self.port, "save": "", "appendonly": "no", "dir": self.data_dir}
        return [str(valkey_server()), *(word for key, value in options.items() for word in (f"--{key}", str(value)))]

    def _answers(self) -> bool:
        # This server, not one that another command has started on the same port at the same moment.
        assert self.process is not None
        return is_answering(_HOST, self.port, b"INFO server\r\n", b"process_id:%d\r\n" % self.process.pid)


def is_answering(host: str, port: int, request: bytes = b"", expected: bytes = b"") -> bool:
    """Whether a server listens there and, if a request is given, has `expected` in its response."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            if request:
                connection.sendall(request)
            return not expected or expected in connection.recv(4096)
    except OSError:
        return False
