"""Benchmarks of the system on embedded servers with durable settings: `make bench`, or `make bench-quick`.

Values that are compared are measured in the same round; results are medians over the rounds. The invariants are checked
after every campaign: a violation ends the benchmark without a result.
"""

import asyncio
import os
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple

import click
import uvloop

from benchmarks import credit, floor, processes, results, seed_design
from benchmarks.bench import Bench, Created, Run, until
from common.settings import load
from local.launcher import System

_ARRAY = 500
_CONNECTIONS = 256  # of the callback load

# The carrier reports without delay, over as many connections as a large one.
_ENVIRON = {"CARRIER_LATENCY": "0.001", "CARRIER_CONNECTIONS": "512", "LOG_LEVEL": "warning"}


class Plan(NamedTuple):
    """The sizes of the measurements: `seconds` of a callback load, else numbers of messages."""

    rounds: int
    contacts: int
    seed: int
    callbacks: int
    seconds: int
    credit: int
    scale: int
    largest: int


_FULL = Plan(5, 100_000, seed=1_500, callbacks=300_000, seconds=3, credit=20_000, scale=40_000, largest=1_000_000)
_QUICK = Plan(1, 10_000, seed=400, callbacks=90_000, seconds=1, credit=5_000, scale=0, largest=0)


class Benchmark:
    """One run: collects values by name over several rounds."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._folder = folder
        self._started_at = time.monotonic()
        self._values: defaultdict[str, list[float]] = defaultdict(list)
        self._runs: defaultdict[str, list[Run]] = defaultdict(list)
        self._peaks: dict[int, dict[str, float]] = {}
        self._scale: dict[str, float] = {}
        self._credit: dict[int, dict[str, float]] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything, and return the results."""
        with self._system() as system:
            _on_uvloop(self._rounds(system))
        for copies in (1, 2, 4) if self._plan.scale else ():
            with self._system(copies) as system:
                _on_uvloop(self._scaled(system, copies))
        return self._results()

    def _system(self, copies: int = 1) -> System:
        environ = {**_ENVIRON, "DATA_DIR": str(self._folder / "data"), "REUSE_PORT": str(copies > 1)}
        self._say(f"starting the system, {copies} salesapi and {copies} sales_worker")
        return System(
            load(environ),
            configured=set(),
            environ={**os.environ, **environ},
            copies={"salesapi": copies, "sales_worker": copies},
            say=lambda line: None,
        )

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._started_at:6.1f} s  {line}", flush=True)

    def _record(self, name: str, value: float, unit: str) -> None:
        self._values[name].append(value)
        self._say(f"  {name}: {value:,.1f} {unit}")

    async def _rounds(self, system: System) -> None:
        async with Bench(system, self._folder) as bench:
            self._say("warming up")
            await bench.run(await bench.create(2_000))
            for number in range(1, self._plan.rounds + 1):
                self._say(f"round {number} of {self._plan.rounds}")
                await self._round(bench)
                await bench.check_phones()
            if self._plan.largest:
                self._say(f"{self._plan.largest:,} contacts")
                await self._campaign(bench, self._plan.largest, "arrays", array=_ARRAY)

    async def _round(self, bench: Bench) -> None:
        plan, environ = self._plan, bench.system.environ
        log = self._folder / "seed_design.log"
        self._record("seed_design", await seed_design.measure(environ, plan.seed, log), "messages/s")
        self._record("floor", await floor.measure(environ["SALESDB_DSN"], plan.contacts), "messages/s")
        secret, campaign = token_hex(16), "0" * 32  # signed, as the campaigns beside it are
        async with processes.ceiling(secret) as url:
            rate = await processes.wrk(url, campaign, self._folder, secret=secret, seconds=plan.seconds)
            rate = rate or (await processes.load(url, campaign, 30_000 * plan.seconds, secret=secret)).requests_per_s
            self._record("callback_ceiling", rate, "requests/s")
        for contacts in (5_000, plan.contacts):
            await self._campaign(bench, contacts, "single", array=1)
            await self._campaign(bench, contacts, "arrays", array=_ARRAY)
        await self._callbacks(bench)
        for clients in (1_000,) if self._credit else (1, 100, 1_000):
            latency = await credit.measure(bench, clients, plan.credit)
            self._credit[clients] = latency
            self._record(f"credit, {clients} clients, p50", latency["p50_ms"], "ms")
            self._record(f"credit, {clients} clients, p99", latency["p99_ms"], "ms")

    async def _campaign(self, bench: Bench, contacts: int, mode: str, *, array: int) -> None:
        """Create and run a campaign, and measure its memory too."""
        bench.reset_peaks()
        created = await bench.create(contacts)
        self._record(f"create {contacts}", created.contacts_per_s, "contacts/s")
        run = await bench.run(created, array=array)
        self._runs[f"{mode} {contacts}"].append(run)
        self._record(f"{mode} {contacts}", run.messages_per_s, "messages/s")
        peaks = bench.peaks()
        known = self._peaks.setdefault(contacts, {})
        self._peaks[contacts] = {name: max(peak, known.get(name, 0.0)) for name, peak in peaks.items()}

    async def _callbacks(self, bench: Bench) -> None:
        """Measure `POST /callback` alone: the carrier holds back its own reports, which then repeat ours."""
        plan, url = self._plan, f"{bench.salesapi}/callback"
        await bench.behave(paused=True, failed=0)  # a failed message would contradict our reports
        created = await bench.create(plan.callbacks)
        campaign = created.bulksms_id.replace("-", "")
        await bench.start(created)
        await self._all_submitted(bench, created)
        share = plan.callbacks // 3
        secret = bench.system.settings.callback_keys[0].decode()
        most = await processes.load(url, campaign, share, connections=_CONNECTIONS, secret=secret)
        self._record("callbacks", most.requests_per_s, "reports/s")
        arrays = await processes.load(url, campaign, share, first=share, array=_ARRAY, connections=16, secret=secret)
        self._record("callbacks, arrays", arrays.reports_per_s, "reports/s")
        rate = 0.8 * most.requests_per_s
        count = min(share, int(rate * plan.seconds))
        options = {"rate": rate, "connections": _CONNECTIONS, "secret": secret}
        steady = await processes.load(url, campaign, count, first=2 * share, **options)
        self._record("callbacks at 80%, p50", steady.p50_ms, "ms")
        self._record("callbacks at 80%, p99", steady.p99_ms, "ms")
        await bench.behave(paused=False, failed=0.02, array=_ARRAY)
        await bench.completed(created)
        await bench.check(created)

    async def _all_submitted(self, bench: Bench, created: Created) -> None:
        query = "SELECT count(*) FROM bulksms_batch WHERE bulksms_id = $1 AND state <> 'submitted'"

        async def none_left() -> bool:
            async with bench.salesdb.connection() as salesdb:
                return not await salesdb.fetchval(query, created.bulksms_id)

        await until(none_left)

    async def _scaled(self, system: System, copies: int) -> None:
        async with Bench(system, self._folder) as bench:
            await bench.run(await bench.create(2_000))
            run = await bench.run(await bench.create(self._plan.scale))
            self._scale[str(copies)] = round(run.messages_per_s)
            self._say(f"  scale, {copies}: {run.messages_per_s:,.0f} messages/s")

    def _results(self) -> dict[str, Any]:
        plan, values = self._plan, self._values
        single, arrays = f"single {plan.contacts}", f"arrays {plan.contacts}"
        largest = plan.largest or plan.contacts
        return {
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": {"cores": os.cpu_count(), "python": f"Python {platform.python_version()}"},
            "contacts": plan.contacts,
            "end_to_end": {
                "single": results.summary("messages_per_s", values[single]),
                "arrays": results.summary("messages_per_s", values[arrays]),
                "single_5000": results.summary("messages_per_s", values["single 5000"]),
                "arrays_5000": results.summary("messages_per_s", values["arrays 5000"]),
            },
            "seed_design": results.summary("messages_per_s", values["seed_design"]),
            "floor": results.summary("messages_per_s", values["floor"]),
            "callback_ceiling": results.summary("requests_per_s", values["callback_ceiling"]),
            "create": {
                **results.summary("contacts_per_s", values[f"create {largest}"], contacts=largest),
                "peak_rss_mb": round(self._peaks[largest]["salesapi"], 1),
                f"of_{plan.contacts}": results.summary("contacts_per_s", values[f"create {plan.contacts}"]),
            },
            "callbacks": {
                "max": results.summary("reports_per_s", values["callbacks"]),
                "arrays": results.summary("reports_per_s", values["callbacks, arrays"]),
                "single": results.summary(
                    "p99_ms", values["callbacks at 80%, p99"], p50_ms=_median(values["callbacks at 80%, p50"])
                ),
            },
            "credit": {
                **results.summary(
                    "p99_ms",
                    values["credit, 1000 clients, p99"],
                    p50_ms=_median(values["credit, 1000 clients, p50"]),
                    clients=1_000,
                ),
                "by_clients": {str(n): {k: round(v, 1) for k, v in one.items()} for n, one in self._credit.items()},
            },
            "memory": {
                "peak_rss_mb": {
                    str(contacts): {name: round(peak, 1) for name, peak in peaks.items()}
                    for contacts, peaks in self._peaks.items()
                }
            },
            "cpu_seconds_per_1000_messages": {"single": self._cpu(single), "arrays": self._cpu(arrays)},
            "scale": {
                "messages_per_s_by_processes": self._scale,
                "cpu_seconds_per_1000_messages_by_contacts": {
                    name: round(_median([run.cpu_per_1000 for run in runs]), 4) for name, runs in self._runs.items()
                },
            },
        }

    def _cpu(self, name: str) -> dict[str, float]:
        runs = self._runs[name]
        return {
            process: round(_median([run.cpu[process] / run.messages * 1000 for run in runs]), 4)
            for process in runs[0].cpu
        }


def _median(values: list[float]) -> float:
    median: float = results.summary("median", values)["median"]
    return median


def _on_uvloop(work: Any) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@click.command()
@click.option("--quick", is_flag=True, help="One short round: under a minute, and no files are written.")
def main(quick: bool) -> None:
    """Measure, and write results.json, the plot and the README's table."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        measured = Benchmark(_QUICK if quick else _FULL, Path(folder)).run()
    if not quick:
        results.write(measured)
    print(results.table(measured))


if __name__ == "__main__":
    main()
