"""Callbacks while uploads are stored: latency and statuses, with many large uploads under way at the same time.

    python -m benchmarks.uploads [--uploads 12] [--rows 150000] [--rate 100]

Each callback is sent at its scheduled time, and its latency is measured from then.
"""

import argparse
import asyncio
import os
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import httpx2
import uvloop

from benchmarks import processes
from benchmarks.bench import MESSAGE, Bench
from benchmarks.load import LoadResult
from common import audit_log
from common.settings import load
from local.launcher import System
from workspace import credit

_SLICE = 5.0  # seconds of callbacks that are measured together


class Callbacks:
    """Sends callbacks at a steady rate, from another process, until stopped."""

    def __init__(self, bench: Bench, bulksms_id: str, rate: float) -> None:
        settings = bench.system.settings
        self._url = f"{bench.salesapi}/callback"
        self._campaign = bulksms_id.replace("-", "")
        self._options: dict[str, object] = {"rate": rate, "connections": 32}
        if settings.callback_keys:
            self._options["secret"] = settings.callback_keys[0].decode()
        self._count = int(rate * _SLICE)
        self._slices: list[LoadResult] = []
        self._stopped = False

    async def run(self) -> None:
        while not self._stopped:
            self._slices.append(await processes.load(self._url, self._campaign, self._count, **self._options))

    def stop(self) -> None:
        self._stopped = True

    def take(self) -> str:
        """Describe the callbacks since the last call."""
        slices, self._slices = self._slices, []
        p50, p95, p99 = (max(getattr(one, name) for one in slices) for name in ("p50_ms", "p95_ms", "p99_ms"))
        other = sum(one.other_answers for one in slices)
        p95_median = sorted(one.p95_ms for one in slices)[len(slices) // 2]
        return (
            f"{len(slices) * self._count} callbacks, {other} not answered with 200; in the worst {_SLICE:g} s "
            f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms; in the median one p95 {p95_median:.1f} ms"
        )


async def _upload(bench: Bench, workspace: str, file: bytes, name: str) -> float:
    """Create one campaign; return its seconds."""
    fields = {"name": name, "message": MESSAGE, "workspace_id": workspace}
    began = time.perf_counter()
    async with httpx2.AsyncClient(timeout=600) as http:
        answer = await http.post(f"{bench.salesapi}/create", data=fields, files={"file": file})
    answer.raise_for_status()
    return time.perf_counter() - began


async def _measure(system: System, folder: Path, uploads: int, rows: int, rate: float) -> None:
    async with Bench(system, folder) as bench:
        await bench.behave(paused=True, failed=0)
        target = await bench.create(1_000)
        await bench.start(target)
        for _ in range(3):
            print(
                f"one upload of {rows:,} rows: {(await bench.create(rows)).contacts_per_s:,.0f} contacts/s", flush=True
            )
        file = bench.file(rows).read_bytes()
        workspace = await credit.create(bench.ds, "benchmark", Decimal(1), audit_log.console())
        callbacks = Callbacks(bench, target.bulksms_id, rate)
        running = asyncio.create_task(callbacks.run())
        await asyncio.sleep(3 * _SLICE)
        print(f"before: {callbacks.take()}", flush=True)
        began = time.perf_counter()
        names = [f"upload {number}" for number in range(uploads)]
        await asyncio.gather(*(_upload(bench, str(workspace.workspace_id), file, name) for name in names))
        seconds = time.perf_counter() - began
        print(f"{uploads} uploads at once: {seconds:.1f} s, {uploads * rows / seconds:,.0f} contacts/s")
        callbacks.stop()
        await running
        print(f"during: {callbacks.take()}", flush=True)


def main() -> None:
    """Start a system, and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=12)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--rate", type=float, default=100.0, help="callbacks per second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        environ = {"DATA_DIR": str(Path(folder) / "data"), "LOG_LEVEL": "warning"}
        settings, inherited = load(environ), {**os.environ, **environ}
        with System(settings, configured=set(), environ=inherited, say=lambda line: None) as system:
            uvloop.run(_measure(system, Path(folder), options.uploads, options.rows, options.rate))


if __name__ == "__main__":
    main()
