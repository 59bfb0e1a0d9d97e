"""The client commands, run as people and scripts do, on the running system."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from common.settings import ROOT
from local.evaluation.processes import NAMES, Processes
from local.launcher import System
from tests.support.client import Client, csv_of
from tests.support.polling import until
from tests.support.workspaces import new_workspace


class Shell:
    """Runs commands against the running system for one workspace."""

    def __init__(self, system: System, workspace: UUID) -> None:
        self._environ = {**system.environ, "WORKSPACE": str(workspace)}

    def __call__(self, *words: str, code: int = 0, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run `console.py WORDS`, which must exit with this code."""
        done = subprocess.run(
            [sys.executable, "console.py", *words],
            cwd=ROOT,
            env={**self._environ, **environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, *words: str, code: int = 0) -> Any:
        """The JSON that `console.py WORDS --json` prints."""
        return json.loads(self(*words, "--json", code=code).stdout)

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Run `console.py WORDS` during the block."""
        command = [sys.executable, "console.py", *words]
        process = subprocess.Popen(command, cwd=ROOT, env=self._environ, stdout=subprocess.PIPE, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def shell(system: System, workspace: UUID) -> Shell:
    return Shell(system, workspace)


@pytest.fixture
def contacts(tmp_path: Path) -> Path:
    """20 contacts, an invalid row and a duplicate."""
    path = tmp_path / "lunch.csv"
    path.write_bytes(csv_of(20) + b"Cy,12\nBo,+358 40 000 0001\n")
    return path


def test_send_shows_progress_and_totals(shell: Shell, contacts: Path) -> None:
    done = shell("send", str(contacts), "--message", "Hei {Contact Name}!", "--yes")
    assert "20 contacts accepted, 1 rejected, 1 duplicate; costs 2.0 credits" in done.stdout
    assert "line 22: '12': too short" in done.stdout
    assert "line 23: '+358 40 000 0001': duplicate number" in done.stdout
    assert "credit 1000.0" in done.stdout
    assert "messages/s" in done.stdout
    assert ": completed in " in done.stdout


def test_with_json_stdout_has_only_json(shell: Shell, contacts: Path, tmp_path: Path) -> None:
    sent = shell.json("send", str(contacts), "--message", "Hei", "--yes", "--name", "lunch")
    assert (sent["status"], sent["name"], sent["contacts"]["queued"]) == ("completed", "lunch", 0)
    assert [row["reason"] for row in sent["rejected_rows"]] == ["too short", "duplicate number"]
    bulksms_id = sent["bulksms_id"]
    assert shell.json("campaign", bulksms_id) == sent
    assert [one["bulksms_id"] for one in shell.json("campaigns")] == [bulksms_id]
    assert shell.json("watch", bulksms_id)["charged"] == sent["charged"]

    exported = csv.DictReader(io.StringIO(shell("export", bulksms_id, "-o", "-").stdout))
    assert sum(row["sms_status"] == "delivered" for row in exported) == sent["contacts"]["delivered"]
    file = tmp_path / "results.csv"
    assert shell.json("export", bulksms_id, "-o", str(file)) == {
        "file": str(file),
        "contacts": 20,
        "bytes": len(file.read_bytes()),
    }


def test_nothing_is_sent_without_confirmation(shell: Shell, contacts: Path) -> None:
    assert "--yes" in shell("send", str(contacts), "--message", "Hei", code=1).stdout
    assert [one["status"] for one in shell.json("campaigns")] == ["created"]


async def test_too_little_credit_names_the_top_up_command(system: System, ds: asyncpg.Pool, contacts: Path) -> None:
    shell = Shell(system, await new_workspace(ds, Decimal("0.5")))
    refused = shell("send", str(contacts), "--message", "Hei", "--yes", code=1)
    assert "Too little credit" in refused.stderr
    assert "/run answered 402" in refused.stderr
    assert "`python console.py topup 1.5`" in refused.stderr
    for _ in range(2):
        assert shell.json("topup", "1.5", "--reference", "invoice 7")["available"] == "2.0"
    bulksms_id = shell.json("campaigns")[0]["bulksms_id"]
    assert shell.json("run", bulksms_id)["status"] == "completed"
    assert "at most one decimal" in shell("topup", "0.05", code=1).stderr


def test_an_error_says_what_is_wrong_where_and_how_to_fix_it(shell: Shell, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("Contact Name,Phone Number\nA,1\nB,2\n")
    refused = shell("send", str(bad), "--message", "Hei", "--yes", "--json", code=1)
    assert refused.stdout == ""
    assert "No contacts: file: none of the 2 rows" in refused.stderr
    assert "line 3: '2': too short" in refused.stderr

    away = shell("campaigns", code=1, SALESAPI_PORT="9").stderr
    assert "salesapi does not answer" in away
    assert "where: http://127.0.0.1:9" in away
    assert "`python console.py salesapi serve`" in away

    nowhere = shell("watch", str(uuid4()), code=1).stderr
    assert "No such campaign" in nowhere
    assert "`python console.py campaigns`" in nowhere
    assert "not a valid time" in shell("run", str(uuid4()), "--schedule", "soon", code=2).stderr


def test_a_campaign_is_scheduled_paused_resumed_and_cancelled(shell: Shell, contacts: Path) -> None:
    bulksms_id = shell.json("send", str(contacts), "--message", "Hei", "--yes", "--schedule", "+2h")["bulksms_id"]
    assert "is paused" in shell("pause", bulksms_id).stdout
    assert shell.json("resume", bulksms_id)["status"] == "scheduled"
    assert shell.json("cancel", bulksms_id)["status"] == "cancelled"
    ended = shell("watch", bulksms_id, code=1)
    assert "cancelled, 20 messages will not be sent" in ended.stdout
    again = shell("pause", bulksms_id, code=1).stderr
    assert "answered 409" in again


def test_ctrl_c_stops_watching_and_not_the_campaign(shell: Shell, contacts: Path) -> None:
    bulksms_id = shell.json("send", str(contacts), "--message", "Hei", "--yes", "--schedule", "+2h")["bulksms_id"]
    with shell.running("watch", bulksms_id) as process:
        assert process.stdout is not None
        assert "queued 20" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "the campaign continues" in process.stdout.read()
        assert process.wait(timeout=60) == 130
    assert shell.json("cancel", bulksms_id)["unsent"] == 20


async def test_credit_is_watched_as_it_changes(shell: Shell, client: Client, workspace: UUID) -> None:
    with shell.running("credit", "--watch", "--json") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["credit"] == "1000.0"
        url = f"{client.webapi}/workspaces/{workspace}/topup"
        assert (await client.http.post(url, json={"amount": "7"})).status_code == 200
        assert json.loads(process.stdout.readline())["credit"] == "1007.0"
    assert shell.json("credit", str(workspace))["credit"] == "1007.0"


async def test_retry_creates_a_campaign_of_the_failed_contacts(shell: Shell, client: Client, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    file.write_bytes(csv_of(100))
    first = shell.json("send", str(file), "--message", "Hei", "--yes")
    made = shell.json("retry", first["bulksms_id"])
    assert (made["accepted"], made["retry_of"]) == (first["contacts"]["failed"], first["bulksms_id"])
    assert made["bulksms_id"] in shell("retry", first["bulksms_id"], code=1).stderr
    assert shell.json("delete", made["bulksms_id"])["deleted"]
    assert "there is no campaign" in shell("campaign", made["bulksms_id"], code=1).stderr


def test_help_is_quick_and_in_sections_and_shells_complete_commands(shell: Shell) -> None:
    heavy = "{'aiohttp', 'psutil', 'matplotlib', 'starlette', 'grpc', 'websockets'}"
    code = f"import sys, console; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    sections = shell("--help").stdout.split("Campaigns and credit:")[1]
    assert sections.index("send ") < sections.index("The whole system:") < sections.index("Single processes:")

    for name in ("bash", "zsh", "fish"):
        assert "_CONSOLE_PY_COMPLETE" in shell(_CONSOLE_PY_COMPLETE=f"{name}_source").stdout
    words = {"COMP_WORDS": "console.py ca", "COMP_CWORD": "1", "_CONSOLE_PY_COMPLETE": "bash_complete"}
    done = subprocess.run(["./console.py"], cwd=ROOT, env=_with_venv(words), capture_output=True, text=True)
    assert {"plain,campaign", "plain,campaigns", "plain,cancel"} <= set(done.stdout.split())


def _with_venv(environ: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


async def test_processes_of_another_system_are_not_found(system: System) -> None:
    expected = {name: {process.pid} for name, process in system.processes.items()}

    async def only_ours_are_found() -> bool:
        # A process that forks has a double for a moment, until the child executes another program.
        found = {name: {one.pid for one in processes} for name, processes in Processes(system.settings).find().items()}
        assert list(found) == list(NAMES)
        assert system.ds is not None
        assert system.ds.process is not None
        assert system.ds.process.pid in found["postgresql ds"]
        assert len(found["postgresql ds"]) > 1
        return found.items() >= expected.items()

    await until(only_ours_are_found)


def test_evaluate_writes_samples_plots_and_a_report(shell: Shell, contacts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    assert shell.json("evaluate", str(contacts), str(contacts), "--running", "--around", "0.5", "-o", str(folder))[
        "report"
    ]
    report = (folder / "README.md").read_text()
    assert "| contacts | 20 | 20 |" in report
    for name in NAMES:
        assert f"| {name} | " in report
    assert (folder / "lunch.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "lunch-2.png").exists()
    progress = _check_samples(folder, "lunch", 20)
    assert int(progress[0]["queued"]) == 20
    assert float(progress[0]["seconds"]) < 0 < float(progress[-1]["seconds"])


async def test_the_sales_worker_evaluates_a_live_campaign(
    system: System, shell: Shell, client: Client, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(10))
    with shell.running("evaluate-live", bulksms_id, "--seconds", "2", "--json") as process:
        await until(lambda: _sampled(client, bulksms_id))
        assert process.stdout is not None
        report = Path(json.loads(process.stdout.read())["report"])
    assert report.is_relative_to(system.settings.data_path)
    _check_samples(report.parent, "campaign", 10)
    assert "could not sample" in shell("evaluate-live", str(uuid4()), code=1).stderr


async def _sampled(client: Client, bulksms_id: str) -> bool:
    """Start the campaign once; return whether it is completed."""
    campaign = await client.campaign(bulksms_id)
    if campaign["status"] == "created":
        await client.run(bulksms_id)
    return bool(campaign["status"] == "completed")


def _check_samples(folder: Path, name: str, contacts: int) -> list[dict[str, str]]:
    """Check that every process and the whole campaign were sampled; return the samples of the campaign."""
    with (folder / f"{name}-processes.csv").open() as file:
        uses = list(csv.DictReader(file))
    assert {use["process"] for use in uses} == set(NAMES)
    assert all(float(use["memory_mb"]) > 1 for use in uses)
    assert any(float(use["cpu_percent_of_one_core"]) > 0 for use in uses)
    with (folder / f"{name}-campaign.csv").open() as file:
        progress = list(csv.DictReader(file))
    assert sum(int(progress[-1][status]) for status in ("delivered", "undelivered", "failed")) == contacts
    return progress
