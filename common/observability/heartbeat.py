"""The heartbeat that every process publishes once a second: its counters and the state of the servers that it needs.

A heartbeat may be lost: the counters are totals, so the next one replaces it.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from common.broadcast import Event, KrispBroadcast
from common.observability.counters import counters
from common.topology import HEARTBEAT_CHANNEL

_PERIOD = 1.0  # seconds
_SERVER_TIMEOUT = 0.8  # seconds


class Heartbeat(msgspec.Struct):
    """The state of a process: `at` in seconds of its monotonic clock, counts since its start, servers by name."""

    process: str = msgspec.field(name="service")
    pid: int
    at: float
    counters: dict[str, int] = msgspec.field(name="counts")
    servers: dict[str, str]  # "ok" or the error


async def run(process: str, broadcast: KrispBroadcast, servers: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
    """Publish heartbeats until cancelled. `servers`: by name, a check that raises if the server does not answer.

    Without Redis a heartbeat is delivered in this process only, so that webapi can show that Redis does not answer.
    """
    topic = f"{process}/{os.getpid()}"
    while True:
        started = time.monotonic()
        states = await asyncio.gather(*(_state(check) for check in servers.values()))
        heartbeat = Heartbeat(process, os.getpid(), time.monotonic(), counters, dict(zip(servers, states, strict=True)))
        data = msgspec.json.encode(heartbeat)
        try:
            async with asyncio.timeout(_SERVER_TIMEOUT):
                await broadcast.publish(HEARTBEAT_CHANNEL, topic, data)
        except Exception:  # Redis does not answer; its other users log that
            broadcast.deliver(Event(HEARTBEAT_CHANNEL, topic, data))
        await asyncio.sleep(max(0.0, started + _PERIOD - time.monotonic()))


async def _state(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_SERVER_TIMEOUT):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
