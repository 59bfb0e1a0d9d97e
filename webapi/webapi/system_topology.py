"""`GET /system/topology`: the nodes of the system and the arrows between them, for the picture on `/system`.

The rates of the counters that an arrow names are in `GET /system/flows`.
"""

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from common.topology import ARROWS, BROWSERS, PROCESSES, SERVERS, Kind
from common.web.requests import json_response


class SystemNode(msgspec.Struct):
    """A process, a server, or a party outside the system."""

    name: str
    kind: Kind
    about: str


class SystemTraffic(msgspec.Struct):
    """One kind of traffic on an arrow: the sum of these counters of a process."""

    label: str
    counters: tuple[str, ...]


class SystemArrow(msgspec.Struct):
    """The traffic from `source` to `target`, counted by the process `counted_by`; `unit` is that of the first kind."""

    source: str
    target: str
    counted_by: str
    unit: str
    traffic: list[SystemTraffic]


class SystemTopology(msgspec.Struct):
    """The nodes and arrows of the system; the page lays them out."""

    nodes: list[SystemNode]
    arrows: list[SystemArrow]


TOPOLOGY = SystemTopology(
    [
        SystemNode(BROWSERS, "client", "dashboards"),
        *(SystemNode(process.name, process.kind, process.about) for process in PROCESSES),
        *(SystemNode(server.name, "server", server.about) for server in SERVERS),
    ],
    [
        SystemArrow(source, target, counted_by, unit, [SystemTraffic(*kind) for kind in traffic])
        for source, target, counted_by, unit, traffic in ARROWS
    ],
)


async def endpoint(request: Request) -> Response:
    """Return the topology: it holds names only, so it needs no key, like the page that shows it."""
    return json_response(TOPOLOGY, headers={"Cache-Control": "no-cache"})
