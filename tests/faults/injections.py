"""The strikes: each is over, and all is running again, when it returns."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import asyncpg
from redis.asyncio import Redis

from local.servers import EmbeddedPostgres, EmbeddedValkey
from tests.faults.harness import Field

PROCESSES = ("salesapi", "webapi", "rpc", "general_worker", "sales_worker", "carrier")
DATABASES = ("ds", "salesdb")
TROUBLES = ("busy", "error", "drop", "lose_answer", "half_answer", "hang")

Strike = Callable[[Field], Awaitable[None]]


async def kill(field: Field, name: str, **environ: str) -> None:
    """kill -9; a supervisor starts it again within 3 s."""
    field.system.kill(name)
    await field.moment(3.0)
    await field.spawn(name, **environ)


async def freeze(field: Field, name: str, seconds: float = 10.0) -> None:
    """SIGSTOP, and SIGCONT later: all that it believed is old by then."""
    process = field.system.processes[name]
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)


async def redis_back_with_the_past(field: Field) -> None:
    """Redis is killed, and comes back with what it had some moments before: jobs that are done, none that are new."""
    valkey = _valkey(field)
    async with Redis.from_url(valkey.url) as redis:
        await redis.execute_command("SAVE")
    await field.moment(0.5)
    valkey.kill()
    await field.moment(2.0)
    valkey.start()
    (valkey.data_dir / "dump.rdb").unlink()


async def redis_wiped(field: Field) -> None:
    """Redis is killed, and comes back empty."""
    _valkey(field).kill()
    await field.moment(2.0)
    _valkey(field).start()


async def redis_frozen(field: Field, seconds: float = 5.0) -> None:
    """Redis takes connections and commands, and answers nothing."""
    process = _valkey(field).process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    process.send_signal(signal.SIGCONT)


async def database_crashed(field: Field, name: str) -> None:
    """PostgreSQL is stopped in immediate mode: no checkpoint, recovery at the start."""
    server = _postgres(field, name)
    server.crash()
    await field.moment(1.0)
    server.start()


async def connections_cut(field: Field, name: str) -> None:
    """Every connection to a database is ended, five times under load."""
    for _ in range(5):
        async with _admin(field, name) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
        await field.moment(0.5)


async def database_read_only(field: Field, name: str, seconds: float = 3.0) -> None:
    """A database answers, but takes no writes."""
    async with _admin(field, name) as connection:
        await connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(seconds)
        await connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await connection.execute("SELECT pg_reload_conf()")


async def connections_exhausted(field: Field, name: str, seconds: float = 3.0) -> None:
    """Others take every connection that a database has; ours were cut."""
    taken: list[asyncpg.Connection] = []
    dsn = _postgres(field, name).dsn
    await connections_cut(field, name)
    try:
        with suppress(asyncpg.TooManyConnectionsError):
            while len(taken) < 500:
                taken.append(await asyncpg.connect(dsn))
        await asyncio.sleep(seconds)
    finally:
        for connection in taken:
            connection.terminate()


async def carrier_in_trouble(field: Field, trouble: str, times: int = 6) -> None:
    """The carrier answers the next batches with 429, 500, half an answer or none, before or after it took them."""
    await field.client.behave(trouble=trouble, times=times)
    await field.moment(3.0)


async def carrier_silent(field: Field) -> None:
    """Reports are late by some seconds, and come all at once."""
    await field.client.behave(paused=True)
    await field.moment(3.0)
    await field.client.behave(paused=False)


def _valkey(field: Field) -> EmbeddedValkey:
    assert field.system.valkey is not None
    return field.system.valkey


def _postgres(field: Field, name: str) -> EmbeddedPostgres:
    server = field.system.ds if name == "ds" else field.system.salesdb
    assert server is not None
    return server


class _admin:
    """A connection that strikes, and is not itself struck."""

    def __init__(self, field: Field, name: str) -> None:
        self._dsn = _postgres(field, name).dsn

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await asyncpg.connect(self._dsn)
        await self._connection.execute("SET default_transaction_read_only = off")
        return self._connection

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()


# What may hit a campaign at any moment, any of them after any other.
ANY: dict[str, Strike] = {
    **{f"kill -9 of {name}": partial(kill, name=name) for name in PROCESSES},
    **{f"{name} frozen": partial(freeze, name=name, seconds=5.0) for name in ("sales_worker", "salesapi")},
    "Redis back with the past": redis_back_with_the_past,
    "Redis wiped": redis_wiped,
    "Redis frozen": partial(redis_frozen, seconds=3.0),
    **{f"{name} crashed": partial(database_crashed, name=name) for name in DATABASES},
    **{f"connections to {name} cut": partial(connections_cut, name=name) for name in DATABASES},
    **{f"{name} read-only": partial(database_read_only, name=name, seconds=2.0) for name in DATABASES},
    **{f"carrier: {trouble}": partial(carrier_in_trouble, trouble=trouble) for trouble in TROUBLES},
    "carrier silent": carrier_silent,
}
