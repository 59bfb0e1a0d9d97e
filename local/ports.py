"""TCP ports of loopback that stay free between the moment they are chosen and the moment a process binds them.

Chosen ports lie outside the range that the kernel takes for outgoing connections, and are reserved among the launchers
of this machine: whoever has chosen a port holds the UDP port of the same number, until its process ends.
"""

import contextlib
import random
import socket
from collections.abc import Iterable
from pathlib import Path

_HOST = "127.0.0.1"
_LOWEST = 12_000  # services known by their port, and ports that browsers refuse, lie below
_OUTGOING = (32_768, 65_535)  # where outgoing connections begin and end on all common systems
_FEWEST = 1_000  # ports that a range must have for launchers to find their own in it
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")

_reserved: dict[int, socket.socket] = {}


class NoFreePortError(Exception):
    """There is no free port on loopback."""


def free_port(preferred: int = 0) -> int:
    """`preferred` if nothing uses it on loopback, else another free port; it stays reserved for this process.

    Raises NoFreePortError.
    """
    if preferred and _can_listen(preferred) and (preferred in _reserved or _reserve(preferred)):
        return preferred
    for port in _candidates():
        if port not in _reserved and _can_listen(port) and _reserve(port):
            return port
    raise NoFreePortError("there is no free port on loopback")


def is_taken(words: str) -> bool:
    """Whether these last words of a process say that its port was taken."""
    lowered = words.lower()
    return "address already in use" in lowered or "address in use" in lowered or "failed to bind" in lowered


def _candidates() -> Iterable[int]:
    """Ports outside the range of outgoing connections, in random order."""
    low, high = _outgoing_range()
    ports = range(_LOWEST, low)
    if len(ports) < _FEWEST:
        ports = range(max(high + 1, _LOWEST), 65_536)
    if len(ports) < _FEWEST:  # outgoing connections may take all; who meets one at its port tries another
        ports = range(_LOWEST, 65_536)
    return random.sample(ports, len(ports))


def _outgoing_range() -> tuple[int, int]:
    """The first and the last port that the kernel takes for outgoing connections."""
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
    """Hold the UDP port of this number; False if another process does."""
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        holder.bind((_HOST, port))
    except OSError:
        holder.close()
        return False
    _reserved[port] = holder
    return True
