"""PostgreSQL and Valkey as child processes on loopback, for root and for ordinary users.

Their data stays in its folder. They end with the process that started them, even if it is killed. Start them from the
main thread: the kernel ends a child when the thread that forked it ends.
"""

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from common.grants import role
from common.redact import split_password
from common.topology import DS, PROCESSES, SALESDB
from local.binaries import EmbeddedError, has_pg_library, pg_bin, valkey_server
from local.passwords import make_private, passwords, scram_verifier, write_private
from local.ports import free_port, is_port_taken
from local.server_user import open_folders_to, server_user

_HOST = "127.0.0.1"
_START_TIMEOUT = 30.0  # seconds; recovery after a crash takes time
_START_ATTEMPTS = 5  # while the port is taken

_MAX_ANSWER = 65_536  # bytes that are kept of a server's response

_SUPERUSER = "postgres"
MIGRATOR = "migrator"  # no process: owns the tables, runs the migrations and operators' commands
_ROLES = (MIGRATOR, *(process.name for process in PROCESSES if {DS, SALESDB} & set(process.needs)))
_ROLES_SQL = Path(__file__).with_name("roles.sql")
_PG_HBA = """\
# Written at each start that finds another content. Fingerprint of the superuser's password: {fingerprint}
host all all 127.0.0.1/32 scram-sha-256
"""

_POSTGRES_SETTINGS = {
    "listen_addresses": _HOST,
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
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
    done = pg_run("psql", dsn, "-v", "ON_ERROR_STOP=1", "-qX", "-f", str(script))
    if done.returncode:
        raise EmbeddedError(f"psql could not load {script.name}: {done.stderr.strip()}")


def pg_run(
    program: str, dsn: str, *options: str, text: str | None = None, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a client program of PostgreSQL; its password is in the environment, since all accounts can read argv."""
    bare, password = split_password(dsn)
    return subprocess.run(
        [str(pg_bin(program)), *options, bare],
        input=text,
        capture_output=True,
        text=True,
        env={**os.environ, **(environ or {}), **password},
    )


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
        user = server_user()
        make_private(self.data_dir.parent, user[1] if user else None)
        self.data_dir.mkdir(mode=0o700, exist_ok=True)
        self.data_dir.chmod(0o700)
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
                umask=0o077,
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
    """PostgreSQL with durable settings, and a login role with a generated password for each process.

    `dsn` is the superuser's, for the administration of the server only.
    """

    stop_signal = signal.SIGINT  # fast shutdown: PostgreSQL does not wait for its clients

    def __init__(self, data_dir: Path, port: int, database: str) -> None:
        super().__init__(data_dir, port)
        self.database = database
        self.name = f"PostgreSQL {database}"

    @property
    def dsn(self) -> str:
        return self._dsn(_SUPERUSER)

    def dsn_of(self, process: str) -> str:
        """The DSN of a process's own role; `MIGRATOR` owns the tables."""
        return self._dsn(role(process))

    def _dsn(self, user: str) -> str:
        return f"postgresql://{user}:{self._passwords[user]}@{_HOST}:{self.port}/{self.database}"

    @property
    def _passwords(self) -> dict[str, str]:
        return passwords(self.data_dir.parent, [_SUPERUSER, *map(role, _ROLES)])

    def start(self) -> None:
        super().start()
        kept = self._passwords
        verifiers = {f"{role(name).upper()}_PASSWORD": scram_verifier(kept[role(name)]) for name in _ROLES}
        self._sql(
            f"SELECT 'CREATE DATABASE {self.database}' WHERE NOT EXISTS "
            f"(SELECT FROM pg_database WHERE datname = '{self.database}')\\gexec\n"
            f"\\connect {self.database}\n{_ROLES_SQL.read_text()}",
            verifiers,
        )

    def crash(self) -> None:
        """Stop the server in immediate mode: no checkpoint, recovery at the next start."""
        self.stop(signal.SIGQUIT)

    def _prepare(self) -> None:
        user = self._user
        if user:
            open_folders_to(self.data_dir.parent)
            open_folders_to(pg_bin("postgres"))
            os.chown(self.data_dir, *user)
        self._refuse_if_running()
        if not (self.data_dir / "PG_VERSION").exists():
            options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-instructions"]
            command = [str(pg_bin("initdb")), "-D", str(self.data_dir), *options]
            uid, gid = user or (None, None)
            done = subprocess.run(command, capture_output=True, text=True, cwd="/", user=uid, group=gid)
            if done.returncode:
                raise EmbeddedError(f"initdb failed: {done.stderr.strip()}")
        self._require_passwords()

    def _require_passwords(self) -> None:
        """Require passwords, also of a cluster that an earlier version has made without them, or whose file is lost.

        The superuser's password is set in single-user mode: at no moment does a server listen that asks for none.
        """
        password = self._passwords[_SUPERUSER]
        wanted = _PG_HBA.format(fingerprint=sha256(password.encode()).hexdigest()[:16])
        pg_hba = self.data_dir / "pg_hba.conf"
        if pg_hba.read_text() == wanted:
            return
        uid, gid = self._user or (None, None)
        done = subprocess.run(
            [str(pg_bin("postgres")), "--single", "-D", str(self.data_dir), "postgres"],
            input=f"ALTER ROLE {_SUPERUSER} PASSWORD '{scram_verifier(password)}'\n",
            capture_output=True,
            text=True,
            cwd="/",
            user=uid,
            group=gid,
        )
        if done.returncode or "ERROR" in done.stderr or "FATAL" in done.stderr:
            raise EmbeddedError(f"{self.name}: the superuser's password could not be set: {done.stderr.strip()}")
        write_private(pg_hba, wanted)
        if self._user:
            os.chown(pg_hba, *self._user)

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

    def _sql(self, script: str, environ: Mapping[str, str] | None = None) -> None:
        dsn = self.dsn.rpartition("/")[0] + "/postgres"
        done = pg_run("psql", dsn, "-qX", "-v", "ON_ERROR_STOP=1", text=script, environ=environ)
        if done.returncode:
            raise EmbeddedError(f"{self.name}: {done.stderr.strip()}")


class EmbeddedValkey(Server):
    """Valkey without persistence, since Redis is only transport; its password is in a file, not in its argv."""

    name = "Valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{_HOST}:{self.port}"

    @property
    def _password(self) -> str:
        return passwords(self.data_dir.parent, ["redis"])["redis"]

    def _command(self) -> list[str]:
        file = self.data_dir / "valkey.conf"
        options = {
            "bind": _HOST,
            "port": self.port,
            "save": '""',
            "appendonly": "no",
            "dir": json.dumps(str(self.data_dir)),
            "requirepass": self._password,
        }
        write_private(file, "".join(f"{key} {value}\n" for key, value in options.items()))
        return [str(valkey_server()), str(file)]

    def _answers(self) -> bool:
        # This server, not one that another command has started on the same port at the same moment.
        assert self.process is not None
        request = f"AUTH {self._password}\r\nINFO server\r\n".encode()
        return is_answering(_HOST, self.port, request, b"process_id:%d\r\n" % self.process.pid)


def is_answering(host: str, port: int, request: bytes = b"", expected: bytes = b"") -> bool:
    """Whether a server listens there and, if a request is given, has `expected` in its response."""
    try:
        with socket.create_connection((host, port), timeout=1) as connection:
            if request:
                connection.sendall(request)
            received = b""
            while expected not in received:
                if not (part := connection.recv(4096)):
                    return False
                received = (received + part)[-_MAX_ANSWER:]
            return True
    except OSError:
        return False
