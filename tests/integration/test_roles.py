"""Each process has a database role of its own, tested by trying what it may not do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from bulksms import grants as bulksms_grants
from bulksms.models import metadata as bulksms_tables
from common.grants import Grants
from local.launcher import System
from local.servers import MIGRATOR, EmbeddedPostgres
from workspace import grants as workspace_grants
from workspace.models import metadata as workspace_tables

DENIED = asyncpg.InsufficientPrivilegeError

_NOBODY_MAY = (
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "CREATE ROLE intruder SUPERUSER",
    "ALTER SYSTEM SET fsync = off",
)
_NO_PROCESS_MAY = (
    "CREATE TABLE public.own (id int)",
    "DROP TABLE {table}",
    "ALTER TABLE {table} ADD own int",
    "TRUNCATE {table}",
    "UPDATE alembic_version SET version_num = '0'",
    "UPDATE audit_log SET outcome = 'done'",
    "DELETE FROM audit_log",
    "ALTER TABLE audit_log DISABLE TRIGGER ALL",
)
_DS = {
    "webapi": (
        "UPDATE workspace SET credit = credit + 1",
        "INSERT INTO ledger SELECT * FROM ledger",
        "DELETE FROM ledger",
        "UPDATE api_key SET secret_hash = secret_hash",
        "INSERT INTO api_key (secret_hash) VALUES (sha256('x'))",
        "SELECT * FROM reservation",
    ),
    "rpc": (
        "DELETE FROM ledger",
        "UPDATE ledger SET amount = 1",
        "UPDATE workspace SET name = 'x'",
        "DELETE FROM workspace",
        "INSERT INTO workspace (name) VALUES ('x')",
        "UPDATE reservation SET amount = 0",
        "UPDATE api_key SET revoked_at = NULL",
    ),
    "general_worker": (
        "DELETE FROM ledger",
        "UPDATE ledger SET amount = 1",
        "SELECT * FROM api_key",
        "DELETE FROM reservation",
        "INSERT INTO workspace (name) VALUES ('x')",
    ),
}
_SALESDB = {
    "salesapi": ("DELETE FROM bulksms", "DELETE FROM bulksms_info", "UPDATE outbox SET amount = 1",
                 "UPDATE bulksms_info SET sms_cost = 0", "DELETE FROM outbox"),
    "sales_worker": ("INSERT INTO bulksms SELECT * FROM bulksms", "DELETE FROM bulksms", "DELETE FROM outbox",
                     "UPDATE outbox SET amount = 1", "UPDATE bulksms_info SET sms_cost = 0"),
    "rpc": ("UPDATE bulksms SET charged = 0", "INSERT INTO outbox SELECT * FROM outbox", "DELETE FROM bulksms_info",
            "UPDATE outbox SET settled_at = now()", "SELECT * FROM idempotency", "SELECT * FROM bulksms FOR UPDATE"),
}  # fmt: skip


@asynccontextmanager
async def connected(server: EmbeddedPostgres | None, name: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    assert server is not None
    connection = await asyncpg.connect(server.dsn_of(name))
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("name", [*_DS, MIGRATOR])
async def test_a_role_of_ds_cannot_do_more_than_its_process(system: System, name: str) -> None:
    await _try(system.ds, name, "workspace", _DS)


@pytest.mark.parametrize("name", [*_SALESDB, MIGRATOR])
async def test_a_role_of_salesdb_cannot_do_more_than_its_process(system: System, name: str) -> None:
    await _try(system.salesdb, name, "bulksms", _SALESDB)


async def _try(server: EmbeddedPostgres | None, name: str, table: str, own: dict[str, tuple[str, ...]]) -> None:
    refused = [*_NOBODY_MAY, *([] if name == MIGRATOR else _NO_PROCESS_MAY), *own.get(name, ())]
    async with connected(server, name) as connection:
        for statement in refused:
            try:
                await connection.execute(statement.format(table=table))
            except DENIED:
                continue
            pytest.fail(f"{name} may {statement}")


async def test_no_role_of_ours_has_special_rights(system: System) -> None:
    query = """SELECT rolname FROM pg_roles WHERE rolname LIKE 'bulksms%' AND rolcanlogin
               AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"""
    for server in (system.ds, system.salesdb):
        async with connected(server, MIGRATOR) as connection:
            assert len(await connection.fetch(query)) == 6
            assert not await connection.fetch("SELECT FROM pg_auth_members WHERE member::regrole::text LIKE 'bulksms%'")


async def test_each_process_uses_its_own_role(system: System) -> None:
    query = "SELECT DISTINCT usename FROM pg_stat_activity WHERE usename LIKE 'bulksms%' AND usename <> current_user"
    seen = {}
    for name, server in (("ds", system.ds), ("salesdb", system.salesdb)):
        assert server is not None
        connection = await asyncpg.connect(server.dsn)
        seen[name] = {row[0] for row in await connection.fetch(query)} - {"bulksms_migrator"}
        await connection.close()
    assert seen["ds"] <= {"bulksms_webapi", "bulksms_rpc", "bulksms_general_worker"}
    assert seen["salesdb"] <= {"bulksms_salesapi", "bulksms_rpc", "bulksms_sales_worker"}
    assert "bulksms_rpc" in seen["ds"]
    assert "bulksms_sales_worker" in seen["salesdb"]


def test_every_table_is_used_by_a_process() -> None:
    """A new table needs an entry in its domain's grants.py, or its process cannot use it."""
    domains: list[tuple[Grants, set[str]]] = [
        (workspace_grants.GRANTS, set(workspace_tables.tables)),
        (bulksms_grants.GRANTS, set(bulksms_tables.tables)),
    ]
    for granted, tables in domains:
        assert {table for each in granted.values() for table in each} == tables
