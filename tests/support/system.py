"""The whole system on free ports of this machine, for tests."""

import os
from pathlib import Path

from common.settings import load
from local.launcher import System
from local.ports import free_port

# Short latencies, and defaults for all else; a lost job is sent again within a second.
_ENVIRON = {
    "CARRIER_LATENCY": "0.05",
    "CARRIER_FAILED": "0.1",
    "CARRIER_UNDELIVERED": "0.1",
    "CARRIER_DUPLICATES": "0.1",
    "CARRIER_OUT_OF_ORDER": "0.1",
    "RELAY_AFTER": "1",
    "SEND_LEASE": "4",
    "CARRIER_TIMEOUT": "3",
    "SEND_BATCH": "50",
    "UPLOAD_MAX_BYTES": str(32 * 1024 * 1024),
    "REQUEST_TIMEOUT": "5",
    "LOG_LEVEL": "info",
}


def free_ports() -> dict[str, str]:
    """Settings with a free port for each server and process, so that several systems can run side by side."""
    ports = [str(free_port()) for _ in range(10)]
    return {
        "WEBAPI_PORT": ports[0],
        "SALESAPI_PORT": ports[1],
        "RPC_ADDRESS": f"127.0.0.1:{ports[2]}",
        "CARRIER_URL": f"http://127.0.0.1:{ports[3]}",
        "DS_DSN": f"postgresql://127.0.0.1:{ports[4]}/ds",
        "SALESDB_DSN": f"postgresql://127.0.0.1:{ports[5]}/salesdb",
        "REDIS_URL": f"redis://127.0.0.1:{ports[6]}",
        "RPC_METRICS_PORT": ports[7],
        "GENERAL_METRICS_PORT": ports[8],
        "SALES_METRICS_PORT": ports[9],
    }


def callback_urls(count: int = 40) -> str:
    """URLs of one free port for tests that receive reports of the simulator, each at a path of its own."""
    port = free_port()
    return " ".join(f"http://127.0.0.1:{port}/callback/{number}" for number in range(count))


def start(data: Path, **environ: str) -> System:
    """Create a separate system, for a `with` block."""
    environ = {**_ENVIRON, **free_ports(), "DATA_DIR": str(data), "CARRIER_CALLBACK_URLS": callback_urls(), **environ}
    inherited = {name: value for name, value in os.environ.items() if not name.endswith(("_DSN", "_URL"))}
    return System(load(environ), configured=set(), environ={**inherited, **environ})
