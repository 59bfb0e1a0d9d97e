"""The demo: a client of the running system that sends one campaign, watches it and its credit, and checks the books."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from time import monotonic
from typing import Any

import httpx
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from websockets.asyncio.client import connect

from common.settings import Settings

STATUSES = ("queued", "sent", "delivered", "undelivered", "failed")
_COLOURS = {"queued": "white", "sent": "yellow", "delivered": "green", "undelivered": "magenta", "failed": "red"}
_SAMPLE_WORKSPACE = "00000000-0000-7000-8000-000000000001"
_PERIOD = 0.2  # seconds between two looks
_FEW = 20  # contacts that are shown one by one
_LONGEST = 600.0  # seconds without a change before the demo gives up


class DemoFailedError(Exception):
    """The system did not do what it should; says what."""


class Demo:
    """One campaign from `contacts` through the system at `settings`' addresses; `key` is an operator's, '' for none."""

    def __init__(self, settings: Settings, contacts: Path, console: Console, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._contacts = contacts
        self._console = console
        self._webapi = f"{settings.webapi_host}:{settings.webapi_port}"
        self._salesapi = f"http://{settings.salesapi_host}:{settings.salesapi_port}"
        self._credit: dict[str, Any] = {}
        self._ticks = 0

    async def run(self) -> None:
        """Send it, show it, sum it up. Raises DemoFailedError."""
        async with httpx.AsyncClient(timeout=120, headers=self._headers) as http, self._watching_credit():
            created = await self._create(http)
            await self._top_up_if_needed(http, Decimal(created["total_cost"]))
            before = Decimal((await self._workspace(http))["credit"])
            await self._post(http, f"{self._salesapi}/run", 202, json={"bulksms_id": created["bulksms_id"]})
            started = monotonic()
            campaign = await self._follow(http, created["bulksms_id"], started)
            credit = await self._settled(http, before - Decimal(campaign["charged"]))
            seconds = monotonic() - started
            if campaign["accepted"] <= _FEW:
                await self._show_contacts(http, created["bulksms_id"])
            self._sum_up(campaign, before, credit, seconds)

    async def _create(self, http: httpx.AsyncClient) -> dict[str, Any]:
        with self._contacts.open("rb") as file:
            fields = {
                "name": f"demo of {self._contacts.name}",
                "message": "Hei {Contact Name}! The canteen serves salmon soup today.",
                "workspace_id": _SAMPLE_WORKSPACE,
            }
            upload = {"file": (self._contacts.name, file, "text/csv")}
            made = await self._post(http, f"{self._salesapi}/create", 201, data=fields, files=upload)
        self._say(
            f"created campaign {made['bulksms_id']}: {made['accepted']} contacts accepted, "
            f"{made['rejected']} rejected, {made['duplicate']} duplicate; costs {made['total_cost']} credits"
        )
        for row in made["rejected_rows"][:5]:
            self._say(f"  line {row['line']}: {row['value']!r}: {row['reason']}")
        return made

    async def _top_up_if_needed(self, http: httpx.AsyncClient, cost: Decimal) -> None:
        available = Decimal((await self._workspace(http))["available"])
        if available < cost:
            amount = cost - available
            url = f"http://{self._webapi}/workspaces/{_SAMPLE_WORKSPACE}/topup"
            await self._post(http, url, 200, json={"amount": str(amount)})
            self._say(f"only {available} credits were available: topped up {amount}")

    async def _follow(self, http: httpx.AsyncClient, bulksms_id: str, started: float) -> dict[str, Any]:
        """Show the campaign until it is completed."""
        campaign: dict[str, Any] = {}
        changed, shown = monotonic(), ""
        with Live(console=self._console, refresh_per_second=10, transient=True) as live:
            while campaign.get("status") != "completed":
                latest = await self._get(http, f"{self._salesapi}/bulksms/{bulksms_id}")
                if latest.get("contacts") != campaign.get("contacts"):
                    changed = monotonic()
                if monotonic() - changed > _LONGEST:
                    raise DemoFailedError(f"nothing has moved for {_LONGEST:g} s: {latest['contacts']}")
                campaign = latest
                rate = _final(campaign) / max(monotonic() - started, 0.001)
                if self._console.is_terminal:
                    live.update(self._picture(campaign, rate))
                elif (line := self._line(campaign, rate)) != shown:
                    shown = line
                    self._say(line)
                await asyncio.sleep(_PERIOD if self._console.is_terminal else _PERIOD * 3)
        return campaign

    def _picture(self, campaign: dict[str, Any], rate: float) -> Table:
        table = Table.grid(padding=(0, 2))
        for status in STATUSES:
            count = campaign["contacts"][status]
            bar = ProgressBar(
                campaign["accepted"], count, width=40, complete_style=_COLOURS[status], finished_style=_COLOURS[status]
            )
            table.add_row(status, bar, str(count))
        table.add_row("messages/s", f"{rate:,.0f}", "")
        table.add_row("credit", f"{self._credit.get('credit', '?')} ({self._credit.get('reserved', '?')} reserved)", "")
        return table

    def _line(self, campaign: dict[str, Any], rate: float) -> str:
        counts = "  ".join(f"{status} {campaign['contacts'][status]}" for status in STATUSES)
        return f"{counts}  credit {self._credit.get('credit', '?')}"

    async def _settled(self, http: httpx.AsyncClient, expected: Decimal) -> dict[str, Any]:
        """The credit once the last charge has come through the outbox; on the WebSocket as in the database."""
        deadline = monotonic() + 30
        while True:
            now = await self._workspace(http)
            if Decimal(now["credit"]) == expected and self._credit.get("version") == now["version"]:
                return now
            if monotonic() > deadline:
                raise DemoFailedError(f"the books do not balance: expected {expected} credits, there are {now}")
            await asyncio.sleep(0.05)

    async def _show_contacts(self, http: httpx.AsyncClient, bulksms_id: str) -> None:
        table = Table(title="Where each contact ended", title_justify="left")
        for column in ("number", "name", "status", "credits", "reason"):
            table.add_column(column)
        page = await self._get(http, f"{self._salesapi}/bulksms/{bulksms_id}/contacts")
        for contact in page["contacts"]:
            cost = "0" if contact["sms_status"] == "failed" else contact["sms_cost"]
            reason = contact["error_code"] or ""
            table.add_row(contact["contact_number"], contact["contact_name"], contact["sms_status"], cost, reason)
        self._console.print(table)

    def _sum_up(self, campaign: dict[str, Any], before: Decimal, credit: dict[str, Any], seconds: float) -> None:
        table = Table(title="In all", title_justify="left")
        for status in STATUSES:
            table.add_column(status, justify="right")
        table.add_row(*(str(campaign["contacts"][status]) for status in STATUSES))
        self._console.print(table)
        after = Decimal(credit["credit"])
        self._say(
            f"{campaign['accepted']} messages in {seconds:.1f} s, {campaign['accepted'] / seconds:,.0f} messages/s"
        )
        self._say(f"credit before {before}, charged {campaign['charged']}, credit now {after}")
        self._say(f"the WebSocket told {self._ticks} times of the credit")
        if _final(campaign) != campaign["accepted"]:
            raise DemoFailedError(f"not every contact is final: {campaign['contacts']}")
        if before - Decimal(campaign["charged"]) != after or Decimal(credit["reserved"]):
            raise DemoFailedError("the books do not balance")
        self._say("the books balance: what is gone is what was charged, and nothing stays reserved")

    @asynccontextmanager
    async def _watching_credit(self) -> AsyncIterator[None]:
        """Keep `_credit` at what the WebSocket tells."""
        async with connect(f"ws://{self._webapi}/ws", additional_headers=self._headers) as socket:
            await socket.send(json.dumps({"workspace_id": _SAMPLE_WORKSPACE}))
            task = asyncio.create_task(self._listen(socket))
            yield
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _listen(self, socket: Any) -> None:
        async for message in socket:
            self._credit = json.loads(message)
            self._ticks += 1

    async def _workspace(self, http: httpx.AsyncClient) -> dict[str, Any]:
        return await self._get(http, f"http://{self._webapi}/workspaces/{_SAMPLE_WORKSPACE}")

    async def _get(self, http: httpx.AsyncClient, url: str) -> dict[str, Any]:
        return self._checked(await http.get(url), 200)

    async def _post(self, http: httpx.AsyncClient, url: str, expected: int, **body: Any) -> dict[str, Any]:
        return self._checked(await http.post(url, **body), expected)

    def _checked(self, answer: httpx.Response, expected: int) -> dict[str, Any]:
        if answer.status_code != expected:
            raise DemoFailedError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
        content: dict[str, Any] = answer.json()
        return content

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False, soft_wrap=True)


def _final(campaign: dict[str, Any]) -> int:
    return sum(int(campaign["contacts"][status]) for status in ("delivered", "undelivered", "failed"))
