"""Free TCP ports of loopback, which stay free until a process binds them.

They are outside the kernel's range for outgoing connections, and reserved among the launchers of this machine: a
launcher holds the UDP port of the same number until it ends.
"""

import contextlib
import random
import socket
from collections.abc import Iterable
from pathlib import Path

_HOST = "127.0.0.1"
_MIN_PORT = 12_000  # above well-known services, and ports that browsers refuse
_OUTGOING = (32_768, 65_535)  # the range for outgoing connections on all common systems
_MIN_PORTS = 1_000  # size of a range that is large enough for several launchers
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_reserved: dict[int, socket.socket] = {}


class NoFreePortError(Exception):
    """There is no free port on loopback."""


def free_port(preferred: int = 0) -> int:
    """Reserve `preferred` for this process if it is free on loopback, else another free port.

    Raises NoFreePortError.
    """
    if preferred and _can_listen(preferred) and (preferred in _reserved or _reserve(preferred)):
        return preferred
    for port in _candidates():
        if port not in _reserved and _can_listen(port) and _reserve(port):
            return port
    raise NoFreePortError("there is no free port on loopback")


def is_port_taken(log: str) -> bool:
    """Whether the log of a process says that its port was taken."""
    lowered = log.lower()
    return "address already in use" in lowered or "address in use" in lowered or "failed to bind" in lowered


def _candidates() -> Iterable[int]:
    """Ports outside the range of outgoing connections, in random order."""
    low, high = _outgoing_range()
    ports = range(_MIN_PORT, low)
    if len(ports) < _MIN_PORTS:
        ports = range(max(high + 1, _MIN_PORT), 65_536)
    if len(ports) < _MIN_PORTS:  # outgoing connections may use all ports; the launcher retries on a collision
        ports = range(_MIN_PORT, 65_536)
    return random.sample(ports, len(ports))


def _outgoing_range() -> tuple[int, int]:
    """The first and last port of the kernel's range for outgoing connections."""
    with contextlib.suppress(OSError, ValueError):
        low, high = _RANGE_FILE.read_text().split()
        return int(low), int(high)
    return _OUTGOING


def _can_listen(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_HOST, port))
        return True
    return False


def _reserve(port: int) -> bool:
    """Hold the UDP port of this number; False if another process holds it."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        holder.bind((_HOST, port))
    except OSError:
        holder.close()
        return False
    _reserved[port] = holder
    return True
