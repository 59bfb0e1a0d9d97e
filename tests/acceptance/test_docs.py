"""Checks docs/: the tutorial's commands, the example's code, every path and link."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import httpx2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from starlette.applications import Starlette
from starlette.routing import Route

from bulksms import message_id
from bulksms.report_writer import ReportWriter
from common.database import Database
from common.settings import ROOT
from common.web import problems
from local.launcher import System
from salesapi.carrier.port import (
    CarrierBusyError,
    CarrierError,
    CarrierRefusedError,
    CarrierUnavailableError,
    CarrierUnknownError,
    Message,
)
from tests.support.client import Client, csv_of, problem
from tests.support.workspaces import hand_over

DOCS = ROOT / "docs"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for folder in (ROOT, DOCS, DOCS / "adr", DOCS / "evaluation", ROOT / "benchmarks")
    for page in folder.glob("*.md")
)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_points_to_a_file(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text())
    assert [link for link in links if not link.startswith("http") and not (path.parent / link).exists()] == []


def test_the_tutorial_works_as_it_is_written(client: Client, system: System, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed here")
    settings = system.settings
    for name in ("5contacts.csv", "console.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    commands = "".join(blocks("tutorial.md", "bash"))
    for documented, actual in {
        "http://localhost:8000": client.webapi,
        "http://localhost:8002": client.salesapi,
        "http://localhost:8007": f"http://127.0.0.1:{settings.sales_metrics_port}",
        ".venv/bin/python": sys.executable,
    }.items():
        assert documented in commands
        commands = commands.replace(documented, actual)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path,
        env=system.environ,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "campaign.json").read_text())["accepted"] == 5
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 6
    for text in ('"status":"completed"', '"status":409', "the books balance", 'outcome="applied"', '"status":"ready"'):
        assert text in done.stdout
    assert 'bulksms_carrier_batches_total{outcome="accepted"}' in done.stdout


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The code of docs/add-a-carrier.md."""
    module = ModuleType("example")
    for code in blocks("add-a-carrier.md", "python"):
        exec(compile(code, code.splitlines()[0], "exec"), module.__dict__)
    return module


class Nordic:
    """A server with the API of the page: answers the next requests with `statuses`, then 200."""

    invalid: ClassVar = "+358400000001"

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.refs: list[str] = []

    async def send(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer token"
        form = await request.post()
        status = self.statuses.pop(0) if self.statuses else 422 if form["to"] == self.invalid else 200
        if status == 200:
            self.refs.append(str(form["ref"]))
        return web.Response(text="as you asked", status=status, headers={"Retry-After": "7"})


@asynccontextmanager
async def _adapter(example: Any, nordic: Nordic) -> AsyncIterator[Any]:
    """An adapter, and the server that it calls."""
    app = web.Application()
    app.router.add_post("/send", nordic.send)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        carrier = example.NordicCarrier(url, "token", "http://x/callback/nordic", 5.0)
        yield carrier
        await carrier.close()


def _messages(*numbers: str) -> Sequence[Message]:
    return [Message(f"id-{index}", number, "Hei") for index, number in enumerate(numbers)]


async def test_the_example_returns_the_accepted_and_the_rejected_messages(example: Any) -> None:
    nordic = Nordic()
    async with _adapter(example, nordic) as carrier:
        submission = await carrier.submit("key", _messages("+358400000000", Nordic.invalid, "+358400000002"))
    assert submission == (2, [("id-1", "as you asked")])
    assert nordic.refs == ["id-0", "id-2"]


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        ([429], CarrierBusyError),
        ([401], CarrierRefusedError),
        ([500], CarrierUnknownError),
        ([200, 429], CarrierUnknownError),
        ([200, 401], CarrierUnknownError),
    ],
)
async def test_the_example_raises_the_error_that_allows_or_forbids_a_retry(
    example: Any, statuses: list[int], error: type[CarrierError]
) -> None:
    async with _adapter(example, Nordic(*statuses)) as carrier:
        with pytest.raises(CarrierError) as raised:
            await carrier.submit("key", _messages("+358400000000", "+358400000002"))
    assert type(raised.value) is error


async def test_the_example_reports_a_refused_connection_as_unavailable(example: Any) -> None:
    carrier = example.NordicCarrier("http://127.0.0.1:9", "token", "http://x", 5.0)
    with pytest.raises(CarrierUnavailableError):
        await carrier.submit("key", _messages("+358400000000"))
    await carrier.close()


async def test_the_reports_of_the_example_are_committed(
    example: Any, client: Client, system: System, workspace: UUID, salesdb: asyncpg.Pool
) -> None:
    bulksms_id = await client.created(workspace, csv_of(2))
    await hand_over(salesdb, bulksms_id)
    database = Database("salesdb", system.settings.salesdb_dsn)
    await database.open()
    writer = ReportWriter(database, buffer=10, flush=10, on_entries=lambda entries: None)
    writing = asyncio.create_task(writer.run())
    app = Starlette(routes=[Route("/r", example.NordicReports(writer).endpoint, methods=["POST"])])
    problems.install(app)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://x") as http:
        report = {"ref": message_id.encode(UUID(bulksms_id), 1), "state": "REJECTD", "at": "1700000000", "err": "17"}
        assert (await http.post("/r", data=report)).status_code == 204
        assert (await http.post("/r", data={**report, "ref": "not-ours"})).status_code == 204
        problem(await http.post("/r", data={**report, "state": "WHAT"}), 400)
    await writer.close()
    writing.cancel()
    await database.close()
    campaign = await client.campaign(bulksms_id)
    assert campaign["contacts"] == {"queued": 1, "failed": 1, "sent": 0, "delivered": 0, "undelivered": 0}
