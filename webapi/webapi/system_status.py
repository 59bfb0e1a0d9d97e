"""`GET /system/flows`: the state of the whole system now, from the heartbeats of all processes."""

from collections.abc import Iterable
from time import monotonic
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.auth.middleware import caller
from common.broadcast import KrispBroadcast
from common.observability.heartbeat import Heartbeat
from common.topology import HEARTBEAT_CHANNEL, PROCESSES, SERVERS
from common.web.problems import Problem
from common.web.requests import json_response

_PROCESS_NAMES = [process.name for process in PROCESSES]
_SERVER_NAMES = [server.name for server in SERVERS]

_MISSING_AFTER = 3.0  # seconds without a heartbeat


class ServiceStatus(msgspec.Struct):
    """A service: the number of its processes, the servers that do not answer it, and its counters per second."""

    processes: int
    lacking: dict[str, str]
    flows: dict[str, float]


class SystemStatus(msgspec.Struct):
    """The status of each service, and of each server: `ok`, `unknown`, or why it does not answer."""

    services: dict[str, ServiceStatus]
    servers: dict[str, str]


class _Process(NamedTuple):
    """The last heartbeat of a process, the time of its arrival (monotonic, seconds), and its counters per second."""

    heartbeat: Heartbeat
    received_at: float
    rates: dict[str, float]


class SystemMonitor:
    """Receives heartbeats, and returns the status that follows from them."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, int], _Process] = {}

    async def run(self, broadcast: KrispBroadcast) -> None:
        """Receive heartbeats until cancelled."""
        with broadcast.subscribe(HEARTBEAT_CHANNEL) as heartbeats:
            while True:
                try:
                    heartbeat = msgspec.json.decode((await heartbeats.get()).data, type=Heartbeat)
                except msgspec.MsgspecError:
                    continue  # from a process of another version: it is shown as missing
                self.add(heartbeat, monotonic())

    def add(self, heartbeat: Heartbeat, now: float) -> None:
        """Record a heartbeat; drop the processes that have ended."""
        self._processes = {key: process for key, process in self._processes.items() if _is_alive(process, now)}
        key = (heartbeat.process, heartbeat.pid)
        before = self._processes.get(key)
        rates = _rates(before.heartbeat, heartbeat) if before else {}
        self._processes[key] = _Process(heartbeat, now, rates)

    def status(self, now: float) -> SystemStatus:
        """Each service with the sum of its processes' rates, and each server as its clients report it."""
        alive = [process for process in self._processes.values() if _is_alive(process, now)]
        by_name = {name: [p for p in alive if p.heartbeat.process == name] for name in _PROCESS_NAMES}
        return SystemStatus(
            {name: _service_status(processes) for name, processes in by_name.items()},
            {name: _server_status(p.heartbeat.servers.get(name) for p in alive) for name in _SERVER_NAMES},
        )

    async def endpoint(self, request: Request) -> Response:
        if not caller(request).is_operator:
            raise Problem(403, "Operator key needed", "only an operator's key can see the state of the system")
        return json_response(self.status(monotonic()), headers={"Cache-Control": "no-store"})


def _is_alive(process: _Process, now: float) -> bool:
    return now - process.received_at < _MISSING_AFTER


def _service_status(processes: list[_Process]) -> ServiceStatus:
    rates: dict[str, float] = {}
    for process in processes:
        for name, rate in process.rates.items():
            rates[name] = rates.get(name, 0.0) + rate
    states = [state for process in processes for state in process.heartbeat.servers.items()]
    return ServiceStatus(len(processes), {name: state for name, state in states if state != "ok"}, rates)


def _server_status(states: Iterable[str | None]) -> str:
    """`ok` if it answers any process, else why it does not; `unknown` if no process reports it."""
    known = [state for state in states if state is not None]
    return "ok" if "ok" in known else next(iter(known), "unknown")


def _rates(before: Heartbeat, after: Heartbeat) -> dict[str, float]:
    seconds = max(after.at - before.at, 0.001)
    return {name: round((count - before.counters.get(name, 0)) / seconds, 1) for name, count in after.counters.items()}
