"""`GET /system/flows`: the whole system at this moment, put together from the pulse of each process."""

from collections.abc import Iterable
from time import monotonic
from typing import NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.auth.middleware import caller
from common.broadcast import KrispBroadcast
from common.observability.heartbeat import CHANNEL, Pulse
from common.web.problems import Problem
from common.web.requests import json_response

SERVICES = ("webapi", "salesapi", "rpc", "general_worker", "sales_worker", "carrier")
SERVERS = ("ds", "salesdb", "redis")

_SILENT = 3.0  # seconds after which a process without a pulse is missing


class ServiceFlows(msgspec.Struct):
    """A service: how many processes are heard of, the servers that do not answer it, what flows by name, per second."""

    processes: int
    lacking: dict[str, str]
    flows: dict[str, float]


class SystemFlows(msgspec.Struct):
    """Each service, and each server: `ok`, `unknown`, or why it does not answer."""

    services: dict[str, ServiceFlows]
    servers: dict[str, str]


class _Process(NamedTuple):
    """The last pulse of a process, when it came (seconds, our clock), and what flowed per second before it."""

    pulse: Pulse
    heard: float
    rates: dict[str, float]


class SystemView:
    """Listens to the pulses, and shows what they tell."""

    def __init__(self) -> None:
        self._processes: dict[tuple[str, int], _Process] = {}

    async def listen(self, broadcast: KrispBroadcast) -> None:
        """Until cancelled."""
        with broadcast.subscribe(CHANNEL) as news:
            while True:
                try:
                    pulse = msgspec.json.decode((await news.get()).data, type=Pulse)
                except msgspec.MsgspecError:
                    continue  # of a process that is newer or older: shown as missing
                self.hear(pulse, monotonic())

    def hear(self, pulse: Pulse, now: float) -> None:
        """Take a pulse; forget the processes that are gone."""
        self._processes = {key: one for key, one in self._processes.items() if now - one.heard < _SILENT}
        before = self._processes.get((pulse.service, pulse.pid))
        rates = _rates(before.pulse, pulse) if before else {}
        self._processes[pulse.service, pulse.pid] = _Process(pulse, now, rates)

    def show(self, now: float) -> SystemFlows:
        """Each service with the sum of its processes' flows, and each server as those see it that need it."""
        alive = [one for one in self._processes.values() if now - one.heard < _SILENT]
        return SystemFlows(
            {name: _service([one for one in alive if one.pulse.service == name]) for name in SERVICES},
            {name: _server(one.pulse.servers.get(name) for one in alive) for name in SERVERS},
        )

    async def endpoint(self, request: Request) -> Response:
        if not caller(request).is_operator:
            raise Problem(403, "Not for this key", "the system is shown to an operator's key")
        return json_response(self.show(monotonic()), headers={"Cache-Control": "no-store"})


def _service(processes: list[_Process]) -> ServiceFlows:
    flows: dict[str, float] = {}
    for process in processes:
        for name, rate in process.rates.items():
            flows[name] = flows.get(name, 0.0) + rate
    lacking = {name: state for process in processes for name, state in process.pulse.servers.items() if state != "ok"}
    return ServiceFlows(len(processes), lacking, flows)


def _server(states: Iterable[str | None]) -> str:
    """`ok` if it answers anyone, else why it does not; `unknown` if nobody says."""
    told = [state for state in states if state is not None]
    return "ok" if "ok" in told else next(iter(told), "unknown")


def _rates(before: Pulse, after: Pulse) -> dict[str, float]:
    seconds = max(after.at - before.at, 0.001)
    return {name: round((count - before.counts.get(name, 0)) / seconds, 1) for name, count in after.counts.items()}
