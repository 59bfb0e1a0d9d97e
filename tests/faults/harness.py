"""The harness of the fault tests: watched campaigns on the running system, and the checks at their end."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from bulksms.status import SmsStatus
from common.database import UNAVAILABLE
from local.launcher import System
from rpc import audit
from salesapi.simulator.outcome import NetworkModel, decide_outcome
from tests.support.client import Client, csv_of
from tests.support.invariants import violations
from tests.support.polling import until
from tests.support.workspaces import new_workspace

_END_TIMEOUT = 120.0  # seconds from the last fault to the end of a campaign
_ORDER = {str(status): place for place, status in enumerate(SmsStatus)}


class InvariantViolation(AssertionError):
    """An invariant does not hold."""


class CreditWatcher:
    """A client that watches a workspace's credit, and reconnects when the connection is lost (I7)."""

    def __init__(self, url: str, workspace: UUID) -> None:
        self.last: dict[str, Any] = {}
        self.violation = ""
        self._url = url
        self._ask = json.dumps({"workspace_id": str(workspace)})
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            with suppress(OSError, WebSocketException, TimeoutError):
                async with connect(self._url, open_timeout=2, ping_interval=1, ping_timeout=3) as socket:
                    await socket.send(self._ask)
                    async for message in socket:
                        self._take(json.loads(message))
            await asyncio.sleep(0.2)

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("version", 0) < self.last.get("version", 0):
            self.violation = f"I7: the watcher got {message} after {self.last}"
        self.last = message

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


class WatchedCampaign:
    """A campaign into which faults are injected, and whose credit is watched."""

    def __init__(self, harness: "Harness", workspace: UUID, bulksms_id: str, watcher: CreditWatcher) -> None:
        self.workspace = workspace
        self.id = bulksms_id
        self._harness = harness
        self._watcher = watcher

    @property
    def prefix(self) -> str:
        """The prefix of its message ids."""
        return UUID(self.id).hex

    async def ends(self, *, as_reported: bool = True) -> dict[str, Any]:
        """Wait for its end and check everything; `as_reported`: each message must stand as the carrier reported it."""
        harness = self._harness
        campaign: dict[str, Any] = await harness.until(self._ended, "the campaign ends")
        if as_reported:
            await harness.until(
                lambda: asyncio.to_thread(harness.all_reported, self.prefix), "the carrier has reported all"
            )
        await harness.check_invariants(self.workspace)
        await self._check_statuses(all_of_them=as_reported)
        await harness.until(self._watcher_knows, "the watcher knows the true credit")
        await self._watcher.close()
        if self._watcher.violation:
            raise InvariantViolation(self._watcher.violation)
        if (reserved := (await harness.client.workspace(self.workspace))["reserved"]) != "0.0":
            raise InvariantViolation(f"I1: {reserved} stays reserved")
        harness.system.check()
        return campaign

    async def _ended(self) -> dict[str, Any] | None:
        campaign = await self._harness.client.campaign(self.id)
        return campaign if campaign["completed_at"] else None

    async def _watcher_knows(self) -> bool:
        return self._watcher.last == await self._harness.client.workspace(self.workspace)

    async def _check_statuses(self, *, all_of_them: bool) -> None:
        """I3, I4: no row is behind what the carrier was answered 200 for, none ahead of what it reported."""
        rows = await self._harness.salesdb.fetch(
            "SELECT seq, sms_status::text AS status, error_code FROM bulksms_info WHERE bulksms_id = $1", UUID(self.id)
        )
        reported = await asyncio.to_thread(self._harness.reported, self.prefix)
        for row in rows:
            if row["error_code"] in ("expired", "refused"):
                continue  # no delivery report within its validity, or never taken
            status = reported.get(row["seq"], "queued")
            behind = _ORDER[row["status"]] < _ORDER[status]
            if behind or (all_of_them and row["status"] != status):
                raise InvariantViolation(
                    f"I3: message {self.prefix}-{row['seq']} is {row['status']}, the carrier reported {status}"
                )


class Harness:
    """The running system, the clients and databases that a scenario needs, and its random numbers."""

    def __init__(
        self, system: System, client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, rng: Random, *, contacts: int
    ) -> None:
        self.system = system
        self.client = client
        self.ds = ds
        self.salesdb = salesdb
        self.rng = rng
        self.contacts = contacts

    async def campaign(self, contacts: int | None = None, *, run: bool = True) -> WatchedCampaign:
        """Create, run and watch a campaign in a new workspace."""
        count = contacts or self.contacts
        workspace = await new_workspace(self.ds, Decimal(count))
        bulksms_id = await self.client.created(workspace, csv_of(count, self.rng.randrange(1_000_000)))
        watcher = CreditWatcher(f"{self.client.webapi.replace('http', 'ws')}/ws", workspace)
        campaign = WatchedCampaign(self, workspace, bulksms_id, watcher)
        if run:
            answer = await self.client.run(bulksms_id)
            assert answer.status_code == 202, answer.text
            await self.random_pause(1.5)
        return campaign

    async def random_pause(self, most: float) -> None:
        """Wait for a random time, up to `most` seconds."""
        await asyncio.sleep(self.rng.uniform(0.0, most))

    async def spawn(self, name: str, **environ: str) -> None:
        """Start a process, as an operator's supervisor would, and return when it is ready."""
        self.system.spawn(name, **environ)
        await until(lambda: asyncio.to_thread(self.system.is_ready, name))

    async def until(self, what: Callable[[], Awaitable[Any]], why: str) -> Any:
        """Poll a condition that may fail meanwhile, because a dependency does not answer."""

        async def tried() -> Any:
            with suppress(httpx2.HTTPError, *UNAVAILABLE):
                return await what()

        try:
            return await until(tried, _END_TIMEOUT)
        except AssertionError:
            raise InvariantViolation(f"not within {_END_TIMEOUT:g} s: {why}") from None

    async def check_invariants(self, workspace: UUID) -> None:
        """I1, I2 and I5 of a workspace whose campaigns have ended."""
        await self.until(lambda: audit.is_settled(self.salesdb, workspace), "ds has what salesdb owes")
        if found := await violations(self.client, self.ds, self.salesdb, workspace):
            raise InvariantViolation("; ".join(found))

    # Records of the carrier

    @property
    def _store(self) -> Path:
        return self.system.settings.data_path / "carrier" / "carrier.sqlite"

    def reported(self, prefix: str) -> dict[int, str]:
        """By seq, the strongest status of a campaign's messages that the carrier was answered 200 for."""
        query = """
            SELECT message_id, seq, odds, steps FROM message JOIN batch ON batch.id = message.batch
            WHERE message_id BETWEEN ? || '-' AND ? || '-z'
        """
        found: dict[int, str] = {}
        with closing(sqlite3.connect(self._store)) as database:
            for message_id, place, odds, steps in database.execute(query, (prefix, prefix)):
                reports = decide_outcome(msgspec.json.decode(odds, type=NetworkModel), message_id).reports[
                    : steps[place]
                ]
                seq = int(message_id.rpartition("-")[2])
                found[seq] = max(
                    [found.get(seq, "queued"), *(report.status for report in reports)], key=_ORDER.__getitem__
                )
        return found

    def all_reported(self, prefix: str) -> bool:
        """Whether the carrier has been answered 200 for every report of the campaign."""
        query = """
            SELECT count(*) FROM message JOIN batch ON batch.id = message.batch
            WHERE batch.open AND message_id BETWEEN ? || '-' AND ? || '-z'
        """
        with closing(sqlite3.connect(self._store)) as database:
            return not database.execute(query, (prefix, prefix)).fetchone()[0]
