"""Every process tells once a second that it lives, what has flowed through it and whether the servers it needs answer.

It is news that may be missed: the counts are totals, so the next pulse makes good for a lost one.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from common.broadcast import KrispBroadcast, News
from common.observability.counters import counts

CHANNEL = "system_flows"

_PERIOD = 1.0  # seconds
_PATIENCE = 0.8  # seconds for a server to answer


class Pulse(msgspec.Struct):
    """One process at one moment: `at` in seconds of its own clock, counts since its start, and each server's state."""

    service: str
    pid: int
    at: float
    counts: dict[str, int]
    servers: dict[str, str]  # "ok", or why it is not


async def beat(service: str, broadcast: KrispBroadcast, servers: Mapping[str, Callable[[], Awaitable[object]]]) -> None:
    """Tell until cancelled. `servers`: by name, what raises if it does not answer.

    Without Redis the pulse is heard in this process only: so webapi can still tell that Redis is away.
    """
    topic = f"{service}/{os.getpid()}"
    while True:
        begun = time.monotonic()
        states = await asyncio.gather(*(_state(check) for check in servers.values()))
        pulse = Pulse(service, os.getpid(), time.monotonic(), counts, dict(zip(servers, states, strict=True)))
        data = msgspec.json.encode(pulse)
        try:
            async with asyncio.timeout(_PATIENCE):
                await broadcast.publish(CHANNEL, topic, data)
        except Exception:  # Redis is away: said by whoever needs it for more than this
            broadcast.deliver(News(CHANNEL, topic, data))
        await asyncio.sleep(max(0.0, begun + _PERIOD - time.monotonic()))


async def _state(check: Callable[[], Awaitable[object]]) -> str:
    try:
        async with asyncio.timeout(_PATIENCE):
            await check()
    except Exception as error:
        return str(error) or type(error).__name__
    return "ok"
