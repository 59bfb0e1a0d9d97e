"""The system under test: its campaigns, and the CPU and memory of its processes."""

import asyncio
import csv
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx2
import psutil

from common.audit_log import console
from common.database import Database
from local.launcher import System
from rpc import audit
from workspace import credit

MESSAGE = "Hei {Contact Name}, salmon soup today!"


class Created(NamedTuple):
    """A campaign that was created."""

    workspace: UUID
    bulksms_id: str
    contacts_per_s: float


class Run(NamedTuple):
    """A finished campaign: messages per second from /run to the last final status, CPU seconds by process."""

    messages: int
    messages_per_s: float
    cpu: dict[str, float]

    @property
    def cpu_per_1000(self) -> float:
        """CPU seconds of all processes per 1,000 messages."""
        return sum(self.cpu.values()) / self.messages * 1000


class BrokenInvariantError(Exception):
    """A campaign has violated an invariant: its measurements are invalid."""


async def until(condition: Callable[[], Awaitable[Any]], timeout: float = 60.0) -> Any:
    """Poll until `condition` returns a true value, and return it. Raises TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not (result := await condition()):  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.05)
    return result


class Bench:
    """A client of the running system that sends campaigns and measures the processes."""

    def __init__(self, system: System, files: Path) -> None:
        settings = system.settings
        self.system = system
        self.salesapi = f"http://127.0.0.1:{settings.salesapi_port}"
        self.webapi = f"127.0.0.1:{settings.webapi_port}"
        self._files = files
        self._http = httpx2.AsyncClient(timeout=600)
        self.ds = Database("ds", settings.ds_dsn)
        self.salesdb = Database("salesdb", settings.salesdb_dsn)

    async def __aenter__(self) -> "Bench":
        await asyncio.gather(self.ds.open(), self.salesdb.open())
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.gather(self._http.aclose(), self.ds.close(), self.salesdb.close())

    async def create(self, contacts: int) -> Created:
        """Create a campaign in a new workspace with enough credit."""
        workspace = await credit.create(self.ds, "benchmark", Decimal(contacts), console())
        fields = {"name": "benchmark", "message": MESSAGE, "workspace_id": str(workspace.workspace_id)}
        with self.file(contacts).open("rb") as file:
            started_at = time.perf_counter()
            response = await self._http.post(f"{self.salesapi}/create", data=fields, files={"file": file})
            seconds = time.perf_counter() - started_at
        campaign = response.raise_for_status().json()
        if campaign["accepted"] != contacts:
            raise BrokenInvariantError(f"{campaign['accepted']} of {contacts} contacts were accepted")
        return Created(workspace.workspace_id, campaign["bulksms_id"], contacts / seconds)

    def file(self, contacts: int) -> Path:
        """A CSV of contacts, with numbers in three formats."""
        path = self._files / f"{contacts}.csv"
        if not path.exists():
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("Contact Name", "Phone Number"))
                for n in range(contacts):
                    number = f"40{n // 10_000:03d}{n % 10_000:04d}"
                    formats = (f"+358{number}", f"0{number}", f"+358 {number[:2]} {number[2:5]} {number[5:]}")
                    writer.writerow((f"Toivo Virtanen {n}", formats[n % 3]))
        return path

    async def behave(self, **behaviour: Any) -> None:
        """Change the carrier's behaviour."""
        answer = await self._http.post(f"{self.system.settings.carrier_url}/behaviour", json=behaviour)
        answer.raise_for_status()

    async def start(self, created: Created) -> None:
        answer = await self._http.post(f"{self.salesapi}/run", json={"bulksms_id": created.bulksms_id})
        answer.raise_for_status()

    async def run(self, created: Created, *, array: int = 1) -> Run:
        """Run a campaign to its end, and check its invariants. Raises BrokenInvariantError."""
        await self.behave(array=array)
        before, started_at = self.cpu(), time.time()
        await self.start(created)
        campaign = await self.completed(created)
        after = self.cpu()
        await self.check(created)
        seconds = datetime.fromisoformat(campaign["completed_at"]).timestamp() - started_at
        return Run(
            campaign["accepted"],
            campaign["accepted"] / seconds,
            {name: after[name] - before.get(name, 0.0) for name in after},
        )

    async def completed(self, created: Created) -> dict[str, Any]:
        """Wait for the campaign's end."""

        async def ended() -> dict[str, Any] | None:
            self.system.check()
            answer = await self._http.get(f"{self.salesapi}/bulksms/{created.bulksms_id}")
            campaign: dict[str, Any] = answer.json()
            return campaign if campaign["status"] == "completed" else None

        campaign: dict[str, Any] = await until(ended, timeout=3_600)
        return campaign

    async def check(self, created: Created) -> None:
        """Check I1 and I2 of the campaign's workspace."""
        async with self.ds.connection() as ds, self.salesdb.connection() as salesdb:
            await until(lambda: audit.is_settled(salesdb, created.workspace))
            if differences := await audit.differences(ds, salesdb, created.workspace):
                raise BrokenInvariantError("; ".join(differences))

    async def check_phones(self) -> None:
        """Check I5 with the carrier's count over all campaigns so far."""
        stats = (await self._http.get(f"{self.system.settings.carrier_url}/stats")).json()
        if stats["most_per_message"] > 1:
            raise BrokenInvariantError("a phone got a message twice")

    # Resource use of the processes

    def _processes(self) -> dict[str, list[psutil.Process]]:
        """All processes by name: ours, and the servers with their children."""
        by_name: dict[str, list[psutil.Process]] = {}
        for name, process in self.system.processes.items():
            by_name.setdefault(name.partition("-")[0], []).append(psutil.Process(process.pid))
        servers = {
            "postgresql ds": self.system.ds,
            "postgresql salesdb": self.system.salesdb,
            "valkey": self.system.valkey,
        }
        for name, server in servers.items():
            if server is not None and server.process is not None:
                root = psutil.Process(server.process.pid)
                by_name[name] = [root, *root.children(recursive=True)]
        return by_name

    def cpu(self) -> dict[str, float]:
        """CPU seconds so far, by process name."""
        used: dict[str, float] = {}
        for name, processes in self._processes().items():
            used[name] = 0.0
            for process in processes:
                try:
                    times = process.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                used[name] += times.user + times.system + times.children_user + times.children_system
        return used

    def reset_peaks(self) -> None:
        """Reset the peak memory of our processes."""
        for process in self.system.processes.values():
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")

    def peaks(self) -> dict[str, float]:
        """The peak resident memory of each of our processes since `reset_peaks`, in MB (10^6 bytes)."""
        return {name: _peak(process.pid) for name, process in self.system.processes.items()}


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6
