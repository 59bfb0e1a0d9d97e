"""The commands of the README, exactly as they are written there."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
from click.testing import CliRunner

from common import settings
from common.settings import ROOT
from console import cli
from local.binaries import EmbeddedError, pg_bin
from local.dumps import schema
from local.launcher import System
from local.ports import free_port
from local.servers import EmbeddedPostgres
from tests.support.commands import run

_DOMAINS = {"workspace": ("DS_DSN", "ds", "ds_dump.sql"), "bulksms": ("SALESDB_DSN", "salesdb", "salesdb_dump.sql")}


class Fresh:
    """An empty database on the running server."""

    def __init__(self, domain: str, server: EmbeddedPostgres, name: str) -> None:
        self.domain = domain
        self.setting, _, self.dump_file = _DOMAINS[domain]
        self.dsn = server.dsn.rpartition("/")[0] + f"/{name}"

    def alembic(self, *command: str) -> None:
        done = run("alembic", *command, cwd=ROOT / self.domain, **{self.setting: self.dsn})
        assert done.returncode == 0, done.stderr

    def load_dump(self) -> None:
        """`cat DUMP | docker exec -i DB psql -U postgres -d DB`, through psql itself."""
        done = subprocess.run(
            [pg_bin("psql"), self.dsn, "-v", "ON_ERROR_STOP=1"],
            input=(ROOT / self.dump_file).read_bytes(),
            capture_output=True,
        )
        assert done.returncode == 0, done.stderr

    async def count(self, table: str) -> int:
        connection = await asyncpg.connect(self.dsn)
        try:
            return int(await connection.fetchval(f"SELECT count(*) FROM {table}"))
        finally:
            await connection.close()


@pytest.fixture(params=list(_DOMAINS))
def fresh(request: pytest.FixtureRequest, system: System) -> Iterator[Fresh]:
    server = system.ds if request.param == "workspace" else system.salesdb
    assert server is not None
    name = "fresh"
    server._sql(f"CREATE DATABASE {name}")
    yield Fresh(request.param, server, name)
    server._sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_migrations_go_up_and_down_and_match_the_models(fresh: Fresh) -> None:
    fresh.alembic("upgrade", "heads")
    fresh.alembic("check")
    assert await fresh.count(fresh.domain) == 0
    fresh.alembic("downgrade", "base")
    fresh.alembic("upgrade", "heads")


async def test_a_dump_loads_before_the_migrations(fresh: Fresh) -> None:
    fresh.load_dump()
    dumped = schema(fresh.dsn)
    fresh.alembic("upgrade", "heads")
    assert await fresh.count(fresh.domain) == 1
    fresh.alembic("downgrade", "base")
    fresh.alembic("upgrade", "heads")
    assert schema(fresh.dsn) == dumped, "a dumped database equals a migrated one: run `make dumps`"


async def test_a_dump_loads_after_the_migrations_and_again(fresh: Fresh) -> None:
    fresh.alembic("upgrade", "heads")
    for _ in range(2):
        fresh.load_dump()
    assert await fresh.count(fresh.domain) == 1


@pytest.mark.parametrize("file", ["docker-compose.yaml", "webapi/docker-compose.yaml"])
def test_compose_files_describe_the_three_servers(file: str) -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed here; CI installs Debian's and runs this")
    done = run("docker-compose", "-f", file, "config")
    assert done.returncode == 0, done.stderr
    for container, port in (("db_ds", "5432"), ("db_salesdb", "5433"), ("redis", "6379")):
        assert f"container_name: {container}" in done.stdout
        assert re.search(rf"127\.0\.0\.1:{port}:|published: '?\"?{port}", done.stdout)


def test_the_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    (tmp_path / "rpc/stubs").mkdir(parents=True)
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    protos = [str(proto) for proto in (ROOT / "protos").glob("*.proto")]
    done = run(sys.executable, "-m", "grpc_tools.protoc", f"-Irpc/stubs={ROOT / 'protos'}", *outputs, *protos)
    assert done.returncode == 0, done.stderr
    made = sorted((tmp_path / "rpc/stubs").iterdir())
    assert len(made) == 6
    for file in made:
        assert file.read_text() == (ROOT / "rpc/stubs" / file.name).read_text(), "run `make protos`"


def test_the_demo_ends_with_balanced_books(system: System) -> None:
    """`make demo` where other programs use the default ports, with output to a file."""
    done = run(sys.executable, "console.py", "demo", DATA_DIR=str(system.settings.data_path / "demo"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the books balance" in done.stdout
    assert "5 contacts accepted" in done.stdout


@pytest.mark.parametrize("name", ["webapi", "salesapi", "rpc", "carrier"])
def test_each_service_has_its_command(name: str) -> None:
    assert "Run " in CliRunner().invoke(cli, [name, "serve", "--help"]).output


def test_a_wrong_setting_is_a_clear_error_at_start() -> None:
    done = run(sys.executable, "console.py", "webapi", "serve", WEBAPI_PORT="eighty")
    assert done.returncode == 1
    assert done.stderr.strip() == "console.py: WEBAPI_PORT='eighty': Expected `int`, got `str`"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DS_DSN", "mysql://x"),
        ("RPC_ADDRESS", "8003"),
        ("SMS_PRICE", "0.15"),
        ("CARRIER_FAILED", "2"),
        ("LOG_LEVEL", "loud"),
        ("SEND_LEASE", "1"),
        ("CALLBACK_SECRETS", "long enough to be one,short"),
        ("RPC_TOKEN", "short"),
        ("RPC_CERT", "no-such-file.pem"),
        ("RPC_CA", "no-such-file.pem"),
    ],
)
def test_every_setting_is_checked(name: str, value: str) -> None:
    with pytest.raises(settings.SettingsError, match=name):
        settings.load({name: value})


def test_the_documentation_lists_every_setting() -> None:
    assert settings.table() in (ROOT / "docs" / "settings.md").read_text()


def test_a_second_command_on_the_same_data_is_refused(system: System) -> None:
    second = EmbeddedPostgres(system.settings.data_path / "ds", 5432, "ds")
    with pytest.raises(EmbeddedError, match="another command runs PostgreSQL ds"):
        second.start()


def test_a_service_logs_the_dependencies_it_waits_for(tmp_path: Path) -> None:
    nowhere = "postgresql://postgres@127.0.0.1:9/salesdb"
    process = subprocess.Popen(
        [sys.executable, "console.py", "salesapi", "serve"],
        cwd=ROOT,
        env={
            **os.environ,
            "SALESDB_DSN": nowhere,
            "REDIS_URL": "redis://:secret@127.0.0.1:9",
            "RPC_ADDRESS": "127.0.0.1:9",
            "RPC_TIMEOUT": "1",
            "SALESAPI_PORT": str(free_port()),
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    waits: set[str] = set()
    while len(waits) < 3:
        waits |= set(re.findall(r"waiting for (\w+ at [0-9.:]+)", process.stderr.readline()))
    assert waits == {"salesdb at 127.0.0.1:9", "redis at 127.0.0.1:9", "rpc at 127.0.0.1:9"}
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 0, "it stopped in order"


def _name(process: psutil.Process) -> str | None:
    """The name of a process; None if it has ended meanwhile."""
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return None


def test_kill_9_of_a_command_leaves_no_process_behind(tmp_path: Path) -> None:
    command = [sys.executable, "console.py", "servers"]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "DATA_DIR": str(tmp_path / "data")}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert next(line for line in process.stdout if "export REDIS_URL" in line)
    children = psutil.Process(process.pid).children(recursive=True)
    assert {"postgres", "valkey-server"} <= set(filter(None, map(_name, children)))
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
