"""Runs a domain's alembic migrations on its database; each domain's `migrations/env.py` is one call of `run`."""

import asyncio

import asyncpg
from alembic import context
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from common.grants import Grants, statements


def run(metadata: MetaData, grants: Grants, dsn: str) -> None:
    """Migrate the database at `dsn` and grant the processes' roles what they need.

    If alembic was called with `--sql`, print the statements instead.
    """
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", target_metadata=metadata, literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
            for statement in statements(grants):
                context.execute(statement)
    else:
        asyncio.run(_migrate(metadata, grants, dsn))


async def _migrate(metadata: MetaData, grants: Grants, dsn: str) -> None:
    # asyncpg reads the DSN itself, as it does for the processes: SQLAlchemy would refuse sslmode and sslrootcert.
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(_run, metadata, grants)
        await connection.commit()
    await engine.dispose()


def _run(connection: Connection, metadata: MetaData, grants: Grants) -> None:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
        for statement in statements(grants):
            connection.exec_driver_sql(statement)
