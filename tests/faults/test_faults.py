"""Some of the scenarios of `make faults`, on the system of the tests: nothing is lost.

SEED chooses the moments.
"""

import os
from collections.abc import AsyncIterator
from random import Random

import asyncpg
import pytest

from local.launcher import System
from tests.faults.harness import Harness
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.support.client import Client

_SEED = int(os.environ.get("SEED", "1"))

_QUICK = {
    "kill -9 of general_worker",
    "kill -9 of sales_worker",
    "killed, restarted from an old snapshot",
    "killed and wiped",
    "ds stopped in immediate mode",
    "salesdb stopped in immediate mode",
    "answers lose_answer",
    "callbacks repeated, unknown, of paused and cancelled",
    "cancelled, all killed",
    "started, all killed",
    "50 /run of one campaign",
    "20 campaigns on credit for 7",
    "SIGTERM of all, started again",
}


@pytest.fixture
async def harness(system: System, client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool) -> AsyncIterator[Harness]:
    """Campaigns of 600 that take some seconds."""
    await client.behave(mps=300)
    yield Harness(system, client, ds, salesdb, Random(_SEED), contacts=600)
    for pool in (ds, salesdb):
        await pool.expire_connections()


@pytest.mark.parametrize(
    "scenario",
    [one for one in SCENARIOS if one.name in _QUICK],
    ids=lambda one: f"{one.group}: {one.name}, seed {_SEED}",
)
async def test_nothing_is_lost(harness: Harness, scenario: Scenario) -> None:
    await scenario.run(harness)
