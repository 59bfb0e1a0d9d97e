"""TLS to PostgreSQL and Redis with real certificates: the addresses are those of docs/operations.md."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest
import trustme

from common.database import Database
from common.jobs import JobQueue, JobsUnavailableError
from common.redis import REDIS_GONE, connect
from common.settings import ROOT
from local.launcher import System
from tests.support.commands import run
from tests.support.tls_front import tls_front


class Encrypted(NamedTuple):
    """The addresses of the system's servers behind TLS, the CA of their certificate, and another CA."""

    dsn: str
    redis_url: str
    ca: Path
    other_ca: Path


@pytest.fixture
async def encrypted(system: System, tmp_path: Path) -> AsyncIterator[Encrypted]:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("localhost").configure_cert(context)  # not 127.0.0.1: the name is verified too
    assert system.ds is not None
    assert system.valkey is not None
    async with (
        tls_front(system.ds.port, context, is_postgres=True) as postgres,
        tls_front(system.valkey.port, context, is_postgres=False) as redis,
    ):
        yield Encrypted(
            system.settings.ds_dsn.replace(f"127.0.0.1:{system.ds.port}", f"localhost:{postgres}"),
            system.valkey.url.replace("redis://:", "rediss://:").replace(
                f"127.0.0.1:{system.valkey.port}", f"localhost:{redis}"
            ),
            tmp_path / "ca.pem",
            tmp_path / "other.pem",
        )


async def _check(dsn: str) -> None:
    database = Database("ds", dsn)
    await database.open()
    try:
        await database.check()
    finally:
        await database.close()


async def test_the_certificate_of_postgres_is_verified(encrypted: Encrypted) -> None:
    verified = f"{encrypted.dsn}?sslmode=verify-full&sslrootcert="
    await _check(f"{verified}{encrypted.ca}")
    done = await asyncio.to_thread(
        run, "alembic", "current", cwd=ROOT / "workspace", DS_DSN=f"{verified}{encrypted.ca}"
    )
    assert done.returncode == 0, done.stderr
    assert "(head)" in done.stdout
    with pytest.raises(ssl.SSLCertVerificationError, match="CERTIFICATE_VERIFY_FAILED"):
        await _check(f"{verified}{encrypted.other_ca}")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for '127\.0\.0\.1'"):
        await _check(f"{verified}{encrypted.ca}".replace("@localhost", "@127.0.0.1"))
    with pytest.raises((OSError, asyncpg.PostgresError)):
        await _check(f"{encrypted.dsn}?sslmode=disable")


async def test_the_certificate_of_redis_is_verified(encrypted: Encrypted) -> None:
    verified = f"{encrypted.redis_url}?ssl_check_hostname=true&ssl_ca_certs="
    jobs = JobQueue.connect(f"{verified}{encrypted.ca}")
    await jobs.check()
    await jobs.close()
    async with connect(f"{verified}{encrypted.ca}") as redis:
        assert await redis.ping()
    for url in (
        f"{verified}{encrypted.other_ca}",
        f"{verified}{encrypted.ca}".replace("@localhost", "@127.0.0.1"),
        encrypted.redis_url.replace("rediss://", "redis://"),
    ):
        async with connect(url) as redis:
            with pytest.raises(REDIS_GONE):
                await redis.ping()
    jobs = JobQueue.connect(f"{verified}{encrypted.other_ca}")
    with pytest.raises(JobsUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await jobs.send("arq:none", "none")
    await jobs.close()
