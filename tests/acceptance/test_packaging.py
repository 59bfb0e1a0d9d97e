"""Packaging: the lock files, and the system as a wheel."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from common.settings import ROOT
from common.version import __version__
from tests.support.system import free_ports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[>=;]", requirement)[0] for requirement in requirements}


def locked(file: str) -> dict[str, str]:
    """The version or versions of each package in a lock file; each must have hashes."""
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / file).read_text(), flags=re.MULTILINE)[1:]
    found: dict[str, str] = {}
    for entry in entries:
        name, version = re.match(r"([a-z0-9.-]+)(?:\[.*?\])?==(\S+)", entry).groups()  # type: ignore[union-attr]
        assert "--hash=sha256:" in entry, name
        found[name] = f"{found.get(name, '')} {version}".strip()
    return found


@pytest.mark.parametrize(
    ("file", "extras", "group"),
    [
        ("requirements.txt", ("embedded", "plots"), []),
        ("requirements-image.txt", ("plots", "tracing"), []),
        ("requirements-dev.txt", tuple(EXTRAS), PROJECT["dependency-groups"]["dev"]),
    ],
)
def test_lock_files_hold_what_the_project_needs_with_hashes(
    file: str, extras: tuple[str, ...], group: list[str]
) -> None:
    needed = [*PROJECT["project"]["dependencies"], *group, *(one for extra in extras for one in EXTRAS[extra])]
    assert names(needed) <= set(locked(file)), "run `make lock`"


def test_lock_files_agree() -> None:
    """The tested versions are those that run."""
    tested = locked("requirements-dev.txt")
    for file in ("requirements.txt", "requirements-image.txt"):
        assert {name: tested[name] for name in locked(file)} == locked(file), "run `make lock`"


def test_what_is_required_is_installed() -> None:
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "-q", "--require-hashes"]
    done = subprocess.run([*command, "-r", "requirements.txt"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_demo_runs_from_the_wheel(tmp_path: Path) -> None:
    """The wheel in site-packages, started in another folder, which holds its data."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site, home = tmp_path / "site-packages", tmp_path / "home"
    with zipfile.ZipFile(tmp_path / f"bulk_sms-{__version__}-py3-none-any.whl") as wheel:
        wheel.extractall(site)
    home.mkdir()
    (home / ".env").write_text("CARRIER_LATENCY=0.05\n")
    environ = {name: value for name, value in os.environ.items() if not name.endswith(("_DSN", "_URL"))}
    moved = {name: value for name, value in free_ports().items() if not name.endswith(("_DSN", "_URL"))}
    code = "import sys, console; sys.argv[0] = 'bulksms'; console.cli()"
    environ |= {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1", **moved}
    for command, output in (("--version", __version__), ("demo", "the books balance")):
        done = subprocess.run(
            [sys.executable, "-c", code, command], cwd=home, env=environ, capture_output=True, text=True, timeout=80
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert output in done.stdout
    assert (home / ".data" / "logs" / "salesapi.log").exists()


def test_workflows_run_what_make_and_ci_run() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for file in (ROOT / ".github" / "workflows").iterdir():
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            for step in job["steps"]:
                made = re.match(r"make ([a-z-]+)", step.get("run", ""))
                assert made is None or made[1] in targets, f"{file.name}: {name}"
