"""The whole system on real servers, started once for the run on free ports, and a client to it."""

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from uuid import UUID

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, settings
from playwright.async_api import Browser

from local.launcher import System
from tests.support.browser import chromium
from tests.support.client import OLD_SECRET, SECRET, Client
from tests.support.system import start
from tests.support.workspaces import new_workspace

# The speed of examples depends on the load of the machine, so it is not checked.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The running system, without API keys."""
    secrets = f"{SECRET},{OLD_SECRET}"
    with start(tmp_path_factory.mktemp("system"), CALLBACK_SECRETS=secrets) as running:
        yield running


@pytest.fixture(scope="session")
async def client(system: System) -> AsyncIterator[Client]:
    """Calls the system over HTTP."""
    async with httpx2.AsyncClient(timeout=60) as http:
        yield Client(http, system.settings)


@pytest.fixture(autouse=True)
async def reset_carrier(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Reset the carrier after a test that changed its behaviour."""
    yield
    if "client" in request.fixturenames:
        client: Client = request.getfixturevalue("client")
        await client.reset_behaviour()


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
    """A new workspace with 1,000 credits."""
    return await new_workspace(ds, Decimal(1000))
