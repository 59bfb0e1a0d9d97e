"""A PostgreSQL database behind a connection pool that survives restarts of the server."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import urlsplit

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from common.observability.counters import counters

Connection: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

# The server is down, stopping or starting, or has closed this connection: the same call may succeed later.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InternalClientError,
)
# Two transactions conflicted: the same transaction succeeds when it is run again.
COLLISION = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


async def _nothing(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Replace the pool's reset: our statements leave no session state, and a reset costs a second round trip."""


class Database:
    """A named database and its connection pool."""

    def __init__(self, name: str, dsn: str, connections: int = 10) -> None:
        self.name = name
        self.address = urlsplit(dsn).netloc.rpartition("@")[2] or "a local socket"
        self._dsn = dsn
        self._connections = connections
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def open(self) -> None:
        """Create the pool; it connects at first use."""
        self._pool = await asyncpg.create_pool(
            self._dsn, min_size=0, max_size=self._connections, timeout=5, command_timeout=60, reset=_nothing
        )

    async def check(self) -> None:
        """Raise if the database does not answer or is not migrated."""
        async with self.connection() as connection:
            if not await connection.fetchval("SELECT to_regclass('alembic_version') IS NOT NULL"):
                raise RuntimeError("the database has no tables: run the migrations (alembic upgrade heads)")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection from the pool."""
        assert self._pool is not None, "call open() first"
        counters[self.name] += 1
        async with self._pool.acquire(timeout=10) as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection in a transaction, committed at the end of the block."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def close(self) -> None:
        """Close all connections at once, without waiting for a server that does not answer."""
        if self._pool is not None:
            self._pool.terminate()
