"""Ports: chosen so that nothing takes them before their process binds them, and chosen again where something has."""

import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from common.settings import ROOT
from local.launcher import System
from local.ports import free_port
from local.servers import EmbeddedValkey
from tests.support.system import start

_FIRST_OUTGOING = 32_768


def test_chosen_ports_are_none_of_outgoing_connections_and_another_launcher_takes_others() -> None:
    ours = [free_port() for _ in range(20)]
    assert len(set(ours)) == 20
    assert all(1024 < port < _FIRST_OUTGOING for port in ours)
    code = f"from local.ports import free_port; print(*(free_port(port) for port in {ours}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not set(map(int, done.stdout.split())) & set(ours)
    assert free_port(ours[0]) == ours[0], "still ours"


@pytest.mark.parametrize(
    ("outgoing", "lowest", "highest"),
    [("20000 30000", 12_000, 19_999), ("1024 40000", 40_001, 65_535), ("1024 65535", 12_000, 65_535)],
)
def test_chosen_ports_are_outside_the_range_that_this_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outgoing: str, lowest: int, highest: int
) -> None:
    (tmp_path / "range").write_text(outgoing.replace(" ", "\t") + "\n")
    monkeypatch.setattr("local.ports._RANGE_FILE", tmp_path / "range")
    assert all(lowest <= free_port() <= highest for _ in range(20))


def test_a_preferred_port_is_taken_as_long_as_nothing_has_it() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert free_port(port) != port
    assert free_port(port) == port


def test_a_server_whose_port_is_taken_at_the_last_moment_starts_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, free_port()])
        monkeypatch.setattr("local.servers.free_port", lambda preferred: next(ports))
        valkey = EmbeddedValkey(tmp_path / "valkey", taken)
        valkey.start()
        try:
            assert valkey.port != taken
            port = valkey.port
            valkey.kill()
            valkey.start()
            assert valkey.port == port, "others know it"
        finally:
            valkey.stop()


def test_processes_whose_ports_are_taken_at_the_last_moment_start_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program binds a port between the choice of the ports and the start of the processes, three times."""
    start_processes = System.start
    settings = iter(["rpc_address", "webapi_port", "carrier_url"])
    taken: dict[str, str] = {}

    def start_too_late(system: System) -> None:
        if setting := next(settings, ""):
            taken[setting] = str(getattr(system.settings, setting))
            others.enter_context(socket.create_server(("127.0.0.1", int(taken[setting].rpartition(":")[2]))))
        start_processes(system)

    monkeypatch.setattr(System, "start", start_too_late)
    with ExitStack() as others, start(tmp_path) as system:
        system.check()
        assert len(taken) == 3
        assert all(str(getattr(system.settings, setting)) != address for setting, address in taken.items())
