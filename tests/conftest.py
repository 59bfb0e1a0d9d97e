"""The whole system on real servers, started once for the run on free ports, and a client to it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser

from common.settings import load
from local.launcher import System
from local.servers import free_port
from tests.browser import chromium
from tests.client import OLD_SECRET, SECRET, Client

# Latencies short enough for a test, everything else as people get it; a lost job is found again within a second.
_ENVIRON = {
    "CARRIER_LATENCY": "0.05",
    "CARRIER_FAILED": "0.1",
    "CARRIER_UNDELIVERED": "0.1",
    "CARRIER_DUPLICATES": "0.1",
    "CARRIER_SWAPPED": "0.1",
    "RELAY_AFTER": "1",
    "SEND_LEASE": "4",
    "CARRIER_TIMEOUT": "3",
    "SEND_BATCH": "50",
    "UPLOAD_MAX_BYTES": str(32 * 1024 * 1024),
    "REQUEST_TIMEOUT": "5",
    "LOG_LEVEL": "info",
}


def free_ports() -> dict[str, str]:
    """Settings that put each part where no other system looks for a place, so that several can run side by side."""
    ports = [str(free_port(0)) for _ in range(10)]
    return {
        "WEBAPI_PORT": ports[0],
        "SALESAPI_PORT": ports[1],
        "RPC_ADDRESS": f"127.0.0.1:{ports[2]}",
        "CARRIER_URL": f"http://127.0.0.1:{ports[3]}",
        "DS_DSN": f"postgresql://127.0.0.1:{ports[4]}/ds",
        "SALESDB_DSN": f"postgresql://127.0.0.1:{ports[5]}/salesdb",
        "REDIS_URL": f"redis://127.0.0.1:{ports[6]}",
        "RPC_METRICS_PORT": ports[7],
        "GENERAL_METRICS_PORT": ports[8],
        "SALES_METRICS_PORT": ports[9],
    }


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The running system, in which no key was made."""
    secrets = f"{SECRET},{OLD_SECRET}"
    with start(tmp_path_factory.mktemp("system"), CALLBACK_SECRETS=secrets) as running:
        yield running


def start(data: Path, **environ: str) -> System:
    """A system of its own, for a with block."""
    environ = {**_ENVIRON, **free_ports(), "DATA_DIR": str(data), **environ}
    inherited = {name: value for name, value in os.environ.items() if not name.endswith(("_DSN", "_URL"))}
    return System(load(environ), configured=set(), environ={**inherited, **environ})


@pytest.fixture(scope="session")
async def client(system: System) -> AsyncIterator[Client]:
    """Calls the system over HTTP."""
    async with httpx.AsyncClient(timeout=30) as http:
        yield Client(http, system.settings)


@pytest.fixture(scope="session")
async def ds(system: System) -> AsyncIterator[asyncpg.Pool]:
    """SQL on ds."""
    async with asyncpg.create_pool(system.settings.ds_dsn, min_size=0) as pool:
        yield pool


@pytest.fixture(scope="session")
async def salesdb(system: System) -> AsyncIterator[asyncpg.Pool]:
    """SQL on salesdb."""
    async with asyncpg.create_pool(system.settings.salesdb_dsn, min_size=0) as pool:
        yield pool


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium, for tests that are marked with NEEDS_CHROMIUM."""
    async with chromium() as started:
        yield started


@pytest.fixture
async def workspace(ds: asyncpg.Pool) -> UUID:
    """A workspace of the test's own, with 1,000 credits."""
    return await new_workspace(ds, Decimal(1000))


async def new_workspace(ds: asyncpg.Pool, credit: Decimal) -> UUID:
    async with ds.acquire() as connection, connection.transaction():
        made: UUID = await connection.fetchval(
            "INSERT INTO workspace (name, credit) VALUES ('test', $1) RETURNING id", credit
        )
        await connection.execute(
            "INSERT INTO ledger (reference, workspace_id, kind, amount) VALUES ($1, $2, 'topup', $3)",
            f"opening:{made}",
            made,
            credit,
        )
    return made


async def until(what: Callable[[], Awaitable[Any]], timeout: float = 40) -> Any:
    """Poll until `what` gives something true, and return it."""
    deadline = time.monotonic() + timeout
    while not (result := await what()):
        assert time.monotonic() < deadline, f"still not so after {timeout} s: {what}"
        await asyncio.sleep(0.05)
    return result


ROOT = Path(__file__).resolve().parent.parent
