"""The embedded servers ask for passwords, and their files are private: other accounts of the machine get nothing."""

import json
import os
import pwd
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from common.running import FILE as SERVERS_FILE
from common.settings import load
from local.binaries import pg_bin
from local.launcher import System
from local.passwords import FILE as PASSWORDS_FILE
from local.ports import free_port
from local.server_user import server_user
from local.servers import MIGRATOR, EmbeddedPostgres, pg_run

AS_NOBODY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")


def as_nobody(*command: str) -> subprocess.CompletedProcess[str]:
    nobody = pwd.getpwnam("nobody")
    return subprocess.run(
        command,
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        capture_output=True,
        text=True,
    )


@AS_NOBODY
def test_another_account_cannot_use_the_servers_or_read_their_files(system: System) -> None:
    assert system.ds is not None
    program = "COPY (SELECT 1) TO PROGRAM 'true'"
    for user in ("postgres", "bulksms_webapi", "nobody"):
        for password in ("", ":postgres"):
            dsn = f"postgresql://{user}{password}@127.0.0.1:{system.ds.port}/ds"
            done = as_nobody(str(pg_bin("psql")), "-wX", dsn, "-c", program)
            assert done.returncode != 0
            assert "password" in done.stderr or "Permission denied" in done.stderr
    data = system.settings.data_path
    for file in (data, data / PASSWORDS_FILE, data / SERVERS_FILE, data / "logs" / "webapi.log", data / "ds.log"):
        done = as_nobody("cat", str(file))
        assert done.returncode != 0
        assert "Permission denied" in done.stderr, file


async def test_nobody_connects_without_the_password(system: System) -> None:
    assert system.ds is not None
    assert system.valkey is not None
    for dsn in (
        f"postgresql://postgres@127.0.0.1:{system.ds.port}/ds",
        f"postgresql://postgres:postgres@127.0.0.1:{system.ds.port}/ds",
    ):
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(dsn, password=None if ":postgres@" in dsn else "")
    async with Redis(host="127.0.0.1", port=system.valkey.port) as redis:
        with pytest.raises(AuthenticationError):
            await redis.ping()


def test_the_files_are_private(system: System) -> None:
    data = system.settings.data_path
    assert data.stat().st_mode & 0o077 == (0o010 if server_user() else 0)
    for name in (PASSWORDS_FILE, SERVERS_FILE, "valkey/valkey.conf"):
        assert (data / name).stat().st_mode & 0o777 == 0o600, name
    for name in ("ds", "salesdb", "valkey"):
        assert (data / name).stat().st_mode & 0o777 == 0o700, name


async def test_a_cluster_without_passwords_gets_them_at_its_start(tmp_path: Path) -> None:
    """What earlier versions have made: `trust` for everyone, in a folder that everyone can read."""
    data = tmp_path / "data"
    server = EmbeddedPostgres(data / "ds", free_port(), "ds")
    server.start()
    server._sql("CREATE ROLE someone LOGIN; CREATE TABLE old (id int)")
    server.stop()
    pg_hba = server.data_dir / "pg_hba.conf"
    pg_hba.write_text("host all all 127.0.0.1/32 trust\n")
    (data / PASSWORDS_FILE).unlink()
    data.chmod(0o755)
    server = EmbeddedPostgres(data / "ds", server.port, "ds")
    server.start()
    try:
        assert data.stat().st_mode & 0o007 == 0
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(f"postgresql://someone@127.0.0.1:{server.port}/ds", password="")
        for dsn in (server.dsn, server.dsn_of(MIGRATOR), server.dsn_of("webapi")):
            connection = await asyncpg.connect(dsn)
            await connection.close()
    finally:
        server.stop()


def _command_lines() -> str:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "\n".join(found)


def test_no_password_is_in_a_command_line_or_a_log(system: System) -> None:
    data = system.settings.data_path
    secrets = list(json.loads((data / PASSWORDS_FILE).read_text()).values())
    assert system.ds is not None
    # psql and pg_dump run long enough to be seen: an account that lists processes sees their arguments.
    with ThreadPoolExecutor() as threads:
        running = threads.submit(pg_run, "psql", system.ds.dsn, "-c", "SELECT pg_sleep(1)")
        seen = ""
        while "pg_sleep(1)" not in seen and not running.done():
            seen = _command_lines()
        assert running.result().returncode == 0, running.result().stderr
    assert "pg_sleep(1)" in seen
    logs = [file for folder in (data, data / "logs") for file in folder.glob("*.log")]
    assert len(logs) >= 8
    for text in (seen, *(file.read_text(errors="replace") for file in logs)):
        for secret in secrets:
            assert secret not in text


def test_commands_find_the_running_servers_without_configuration(system: System) -> None:
    """As a user types `console.py audit` beside `console.py up`."""
    found = load({"DATA_DIR": str(system.settings.data_path)})
    assert (found.ds_dsn, found.redis_url) == (system.settings.ds_dsn, system.settings.redis_url)
    configured = load({"DATA_DIR": str(system.settings.data_path), "DS_DSN": "postgresql://elsewhere/ds"})
    assert configured.ds_dsn == "postgresql://elsewhere/ds"
