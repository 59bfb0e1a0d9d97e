"""Every process publishes a heartbeat once a second: its counters, and whether the servers that it needs answer.

A heartbeat may be lost: the counters are totals, so the next one makes up for it.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from common.broadcast import KrispBroadcast, News
from common.observability.counters import counters
from common.topology import HEARTBEAT_CHANNEL

_PERIOD = 1.0  # seconds
_SERVER_TIMEOUT = 0.8  # seconds


class Heartbeat(msgspec.Struct):
    """One process at one moment: `at` in seconds of its own clock, counts since its start, and each server's state."""

    process: str = msgspec.field(name="service")
    pid: int
    at: float
    counters: dict[str, int] = msgspec.field(name="counts")
    servers: dict[str, str]  # "ok", or why it is not


async def run(process: str, broadcast: KrispBroadcast, servers: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
    """Publish until cancelled. `servers`: by name, what raises if it does not answer.

    Without Redis a heartbeat reaches this process only: so webapi can still show that Redis does not answer.
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
        except Exception:  # Redis does not answer: logged by whoever needs it for more than this
            broadcast.deliver(News(HEARTBEAT_CHANNEL, topic, data))
        await asyncio.sleep(max(0.0, started + _PERIOD - time.monotonic()))


async def _state(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_SERVER_TIMEOUT):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
