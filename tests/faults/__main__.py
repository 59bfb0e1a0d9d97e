"""`make faults`: every scenario on one running system; writes docs/faults.md and the README's table.

python -m tests.faults [--seed N] [--only WORDS] [--list]
"""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random, randrange
from typing import NamedTuple

import asyncpg
import click
import httpx2

from common.settings import ROOT, load
from local.launcher import System
from local.readme import replace_section
from tests.faults.harness import Harness, InvariantViolation
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.support.client import Client
from tests.support.system import free_ports

# The carrier accepts a thousand messages per second, so that a campaign lasts some seconds; leases are short, so that
# lost work is taken over soon. All else has its default.
_ENVIRON = {
    "CARRIER_LATENCY": "0.2",
    "CARRIER_MPS": "1000",
    "CARRIER_FAILED": "0.05",
    "CARRIER_UNDELIVERED": "0.05",
    "CARRIER_DUPLICATES": "0.1",
    "CARRIER_OUT_OF_ORDER": "0.1",
    "RELAY_AFTER": "1",
    "SEND_LEASE": "4",
    "CARRIER_TIMEOUT": "2",
    "SEND_BATCH": "100",
}
_CONTACTS = 3_000


class Result(NamedTuple):
    """The result of a scenario: its duration, and the violated invariant, or empty if nothing was lost."""

    scenario: Scenario
    seconds: float
    lost: str


async def _run(system: System, scenarios: Sequence[Scenario], seed: int) -> list[Result]:
    results = []
    async with (
        httpx2.AsyncClient(timeout=60) as http,
        asyncpg.create_pool(system.settings.ds_dsn, min_size=0) as ds,
        asyncpg.create_pool(system.settings.salesdb_dsn, min_size=0) as salesdb,
    ):
        for number, scenario in enumerate(scenarios, 1):
            harness = Harness(
                system, Client(http, system.settings), ds, salesdb, Random(f"{seed} {scenario}"), contacts=_CONTACTS
            )
            started_at = time.monotonic()
            lost = await _violation(scenario, harness)
            results.append(Result(scenario, time.monotonic() - started_at, lost))
            print(
                f"{number:3}/{len(scenarios)}  {scenario.group}: {scenario.name}: "
                f"{f'LOST: {lost}' if lost else 'survived'}  ({results[-1].seconds:.1f} s)",
                flush=True,
            )
    return results


async def _violation(scenario: Scenario, harness: Harness) -> str:
    """Run a scenario; return the violated invariant, or empty."""
    try:
        await scenario.run(harness)
    except InvariantViolation as error:
        return str(error)
    except Exception as error:  # a failed scenario proves nothing, and the others still have to run
        return f"the scenario ended with {error!r}"
    return ""


def _page(results: Sequence[Result], seed: int) -> str:
    """The table of every scenario."""
    lines = ["| fault | | seconds | lost |", "|---|---|---|---|"]
    lines += [
        f"| {one.scenario.group} | {one.scenario.name} | {one.seconds:.0f} | {one.lost or 'nothing'} |"
        for one in results
    ]
    return "\n".join(lines) + f"\n\nSeed {seed}, {time.strftime('%Y-%m-%d', time.gmtime())}.\n"


def _summary(results: Sequence[Result]) -> str:
    """The table of the README: a row a group."""
    groups: dict[str, list[Result]] = {}
    for one in results:
        groups.setdefault(one.scenario.group, []).append(one)
    lines = ["| fault in mid-campaign | how | survived | lost |", "|---|---|---|---|"]
    for group, ones in groups.items():
        survived = sum(not one.lost for one in ones)
        lost = "; ".join(one.lost for one in ones if one.lost) or "nothing"
        names = ", ".join(one.scenario.name for one in ones)
        lines.append(f"| {group} | {names} | {survived} of {len(ones)} | {lost} |")
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--seed", type=int, help="Seed of the random moments; default: random.")
@click.option("--only", default="", help="Only scenarios with this in their name or group.")
@click.option("--list", "listing", is_flag=True, help="List the scenarios.")
def main(seed: int | None, only: str, listing: bool) -> None:
    """Inject faults and check every invariant; ends with code 1 if anything was lost."""
    scenarios = [one for one in SCENARIOS if only in f"{one.group}: {one.name}"]
    if listing:
        print("\n".join(f"{one.group}: {one.name}" for one in scenarios))
        return
    seed = randrange(1_000_000) if seed is None else seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    folder.chmod(0o755)
    environ = {**_ENVIRON, **free_ports(), "DATA_DIR": str(folder)}
    with System(load(environ), configured=set(), environ={**os.environ, **environ}, say=lambda line: None) as system:
        results = asyncio.run(_run(system, scenarios, seed))
    lost = [one for one in results if one.lost]
    if not only and not lost:
        replace_section(ROOT / "docs" / "faults.md", "faults", _page(results, seed))
        replace_section(ROOT / "README.md", "faults", _summary(results))
    print(f"{len(results) - len(lost)} survived, {len(lost)} lost something; seed {seed}")
    if lost:
        sys.exit(f"the logs are in {folder / 'logs'}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
