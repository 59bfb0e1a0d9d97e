"""The faults that can be injected: each returns when it is over and everything is running again."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial

import asyncpg
from redis.asyncio import Redis

from common import topology
from local.servers import EmbeddedPostgres, EmbeddedValkey
from tests.faults.harness import Harness

PROCESSES = tuple(process.name for process in topology.PROCESSES)
DATABASES = (topology.DS, topology.SALESDB)
TROUBLES = ("busy", "error", "drop", "lose_answer", "half_answer", "hang")

Injection = Callable[[Harness], Awaitable[None]]


async def kill(harness: Harness, name: str, environ: Mapping[str, str] | None = None) -> None:
    """kill -9; a supervisor starts it again within 3 s."""
    harness.system.kill(name)
    await harness.random_pause(3.0)
    await harness.spawn(name, **(environ or {}))


async def freeze(harness: Harness, name: str, seconds: float = 10.0) -> None:
    """SIGSTOP, and SIGCONT later, when everything that the process remembers is outdated."""
    process = harness.system.processes[name]
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)


async def redis_restarted_from_an_old_snapshot(harness: Harness) -> None:
    """Redis is killed and restarted with an old snapshot: with finished jobs, and without new ones."""
    valkey = _valkey(harness)
    async with Redis.from_url(valkey.url) as redis:
        await redis.execute_command("SAVE")
    await harness.random_pause(0.5)
    valkey.kill()
    await harness.random_pause(2.0)
    valkey.start()
    (valkey.data_dir / "dump.rdb").unlink()


async def redis_wiped(harness: Harness) -> None:
    """Redis is killed and restarted empty."""
    _valkey(harness).kill()
    await harness.random_pause(2.0)
    _valkey(harness).start()


async def redis_frozen(harness: Harness, seconds: float = 5.0) -> None:
    """Redis accepts connections and commands, but does not answer."""
    process = _valkey(harness).process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)


async def database_crashed(harness: Harness, name: str) -> None:
    """PostgreSQL is stopped in immediate mode: no checkpoint, recovery at the start."""
    server = _postgres(harness, name)
    server.crash()
    await harness.random_pause(1.0)
    server.start()


async def connections_cut(harness: Harness, name: str) -> None:
    """Every connection to a database is terminated, five times under load."""
    for _ in range(5):
        async with _AdminConnection(harness, name) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        await harness.random_pause(0.5)


async def database_read_only(harness: Harness, name: str, seconds: float = 3.0) -> None:
    """A database answers, but rejects writes."""
    async with _AdminConnection(harness, name) as connection:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(seconds)
        await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await connection.execute("SELECT pg_reload_conf()")


async def connections_exhausted(harness: Harness, name: str, seconds: float = 3.0) -> None:
    """Other clients take all connections of a database, after ours were cut."""
    connections: list[asyncpg.Connection] = []
    dsn = _postgres(harness, name).dsn
    await connections_cut(harness, name)
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            while len(connections) < 500:
                connections.append(await asyncpg.connect(dsn))
        await asyncio.sleep(seconds)
    finally:
        for connection in connections:
            connection.terminate()


async def carrier_in_trouble(harness: Harness, trouble: str, times: int = 6) -> None:
    """The carrier answers the next batches with 429, 500, half a response or none, before or after accepting them."""
    await harness.client.behave(trouble=trouble, times=times)
    await harness.random_pause(3.0)


async def carrier_silent(harness: Harness) -> None:
    """Delivery reports are some seconds late, and then arrive together."""
    await harness.client.behave(paused=True)
    await harness.random_pause(3.0)
    await harness.client.behave(paused=False)


def _valkey(harness: Harness) -> EmbeddedValkey:
    assert harness.system.valkey is not None
    return harness.system.valkey


def _postgres(harness: Harness, name: str) -> EmbeddedPostgres:
    server = harness.system.ds if name == topology.DS else harness.system.salesdb
    assert server is not None
    return server


class _AdminConnection:
    """A connection that injects faults, and is exempt from them."""

    def __init__(self, harness: Harness, name: str) -> None:
        self._dsn = _postgres(harness, name).dsn

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await asyncpg.connect(self._dsn)
        await self._connection.execute("SET default_transaction_read_only = off")
        return self._connection

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()


# Faults that may be injected at any moment and in any order.
INJECTIONS: dict[str, Injection] = {
    **{f"kill -9 of {name}": partial(kill, name=name) for name in PROCESSES},
    **{f"{name} frozen": partial(freeze, name=name, seconds=5.0) for name in ("sales_worker", "salesapi")},
    "Redis restarted from an old snapshot": redis_restarted_from_an_old_snapshot,
    "Redis wiped": redis_wiped,
    "Redis frozen": partial(redis_frozen, seconds=3.0),
    **{f"{name} crashed": partial(database_crashed, name=name) for name in DATABASES},
    **{f"connections to {name} cut": partial(connections_cut, name=name) for name in DATABASES},
    **{f"{name} read-only": partial(database_read_only, name=name, seconds=2.0) for name in DATABASES},
    **{f"carrier: {trouble}": partial(carrier_in_trouble, trouble=trouble) for trouble in TROUBLES},
    "carrier silent": carrier_silent,
}
