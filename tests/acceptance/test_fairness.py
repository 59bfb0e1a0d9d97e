"""One key does not starve the others: uploads and scans are bounded, and callbacks are answered meanwhile."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from uuid import UUID

import asyncpg
import httpx2
import psutil
import pytest

from local.launcher import System
from tests.support.client import SECRET, Client, csv_of, problem
from tests.support.multipart import form
from tests.support.polling import until
from tests.support.raw_http import RawConnection, connect
from tests.support.secured_system import SecuredSystem
from tests.support.system import start

_UPLOADS, _ROWS = 6, 50_000
_PER_KEY, _TOTAL = 2, 3
_SPACE = 8 * 1024 * 1024  # bytes, of which a key takes at most half
_HEAD = (
    b"POST /create HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
    b"Authorization: Bearer %s\r\nContent-Length: 20000000\r\n\r\n"
)


_STORING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%'"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with small bounds."""
    environ = {
        "CALLBACK_SECRETS": SECRET,
        "UPLOADS": str(_TOTAL),
        "UPLOADS_PER_KEY": str(_PER_KEY),
        "UPLOADS_MAX_BYTES": str(_SPACE),
        "SCANS_PER_KEY": "1",
        "REQUEST_TIMEOUT": "120",
    }
    with start(tmp_path_factory.mktemp("bounded"), **environ) as running:
        yield running


@pytest.fixture(scope="module")
async def bounded(small: System) -> AsyncIterator[SecuredSystem]:
    async with httpx2.AsyncClient(timeout=60) as http:
        made = SecuredSystem(small, Client(http, small.settings))
        made.operator = await made.new_key("create", "--operator")
        made.ann, made.bob = await made.owner("ann"), await made.owner("bob")
        yield made


async def test_callbacks_are_answered_while_uploads_are_stored(client: Client, workspace: UUID) -> None:
    """Every callback gets 200: as many and as large uploads as make the earlier design answer 503."""
    await client.behave(paused=True)
    target = await client.created(workspace, csv_of(100))
    assert (await client.run(target)).status_code == 202
    file = csv_of(_ROWS)
    uploads = [asyncio.create_task(client.create(workspace, file)) for _ in range(_UPLOADS)]
    answered: list[tuple[int, float]] = []
    number = 0
    while not all(upload.done() for upload in uploads):
        message_id = f"{target.replace('-', '')}-{number % 100}"
        began = time.perf_counter()
        answer = await client.callback(
            {"message_id": message_id, "status": "sent", "timestamp": "2026-01-01T00:00:00Z"}
        )
        answered.append((answer.status_code, time.perf_counter() - began))
        number += 1
    assert [upload.result().status_code for upload in uploads] == [201] * _UPLOADS
    assert [upload.result().json()["accepted"] for upload in uploads] == [_ROWS] * _UPLOADS
    assert {status for status, _ in answered} == {200}
    assert len(answered) > 20
    assert sorted(seconds for _, seconds in answered)[len(answered) // 2] < 2  # far above what a busy machine needs


async def _held(connection: RawConnection, key: str, size: int) -> None:
    """Begin an upload, send `size` bytes of it, and no more."""
    connection.send(_HEAD % key.encode())
    connection.send(b"".join(form([b"x" * size], end=b"")))
    await connection.writer.drain()


async def test_uploads_under_way_are_bounded_for_a_key_and_in_all(bounded: SecuredSystem) -> None:
    url, ann, bob = bounded.client.salesapi, bounded.ann, bounded.bob
    async with AsyncExitStack() as stack:
        hold = [await stack.enter_async_context(connect(url)) for _ in range(_PER_KEY + 3)]
        assert "this key has 2 uploads in progress" in await _one_is_refused(hold[:3], ann.key)
        assert (await _create(bounded, bob.key, bob.workspace)).status_code == 201, "the others are not refused"
        assert "3 uploads are in progress" in await _one_is_refused(hold[3:], bob.key)
    await until(lambda: _is_created(bounded, ann.key, ann.workspace))  # what they held is free again


async def _one_is_refused(connections: list[RawConnection], key: str) -> str:
    """Begin an upload on each connection; the detail of the one refusal."""
    for connection in connections:
        await _held(connection, key, 10_000)
    answers = [asyncio.create_task(connection.answer()) for connection in connections]
    done, held = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    for answer in held:
        answer.cancel()
    assert len(done) == 1
    status, body, headers = done.pop().result()
    assert (status, headers["retry-after"]) == (429, "5")
    return str(body["detail"])


async def test_who_sends_much_and_then_little_is_ended(client: Client) -> None:
    """What was sent at once buys no time: a byte a second is below the least rate, however many came before."""
    began = time.monotonic()
    async with connect(client.salesapi) as connection:
        await _held(connection, "", 2_000_000)
        answer = asyncio.create_task(connection.answer())
        while not answer.done():
            await asyncio.wait([answer], timeout=1)
            connection.send(b"x")
        assert answer.result()[0] == 408
    assert time.monotonic() - began < 100  # at 4 kB for a second, 2 MB would have bought 500


async def test_the_bytes_of_uploads_under_way_are_bounded(bounded: SecuredSystem) -> None:
    async with connect(bounded.client.salesapi) as connection:
        await _held(connection, bounded.ann.key, _SPACE // 2 + 1_000_000)
        status, body, headers = await connection.answer()
    assert (status, headers["retry-after"]) == (429, "5")
    assert f"{_SPACE // 2} bytes" in body["detail"]
    assert (await _create(bounded, bounded.ann.key, bounded.ann.workspace)).status_code == 201


async def test_scans_under_way_are_bounded_for_a_key(bounded: SecuredSystem) -> None:
    """Whatever reads many rows counts: of those sent at once some are refused, and other reads are not."""
    ann = bounded.ann
    kinds = ("contacts?status=queued", "rejected", "results.csv", "timeline")
    urls = [f"/bulksms/{ann.bulksms_id}/{kind}" for kind in kinds] * 5
    answers = await asyncio.gather(*(bounded.call(ann.key, "GET", url) for url in urls))
    assert {answer.status_code for answer in answers} == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "reads of contacts" in problem(refused, 429)
    assert await bounded.status(ann.key, f"/bulksms/{ann.bulksms_id}") == 200
    assert await bounded.status(ann.key, urls[2]) == 200, "they have ended"


async def test_an_upload_process_that_is_killed_is_replaced_and_leaves_nothing(
    bounded: SecuredSystem, small: System
) -> None:
    bob = bounded.bob
    before = await bounded.call(bob.key, "GET", "/bulksms")
    upload = asyncio.create_task(_create(bounded, bob.key, bob.workspace, csv_of(120_000)))
    children = psutil.Process(small.processes["salesapi"].pid).children()
    assert small.salesdb is not None
    async with asyncpg.create_pool(small.salesdb.dsn, min_size=0) as salesdb:  # a superuser sees what others do
        await until(lambda: salesdb.fetchval(_STORING))
        for child in children:  # the one that stores it, and the idle one
            child.kill()
    assert "interrupted" in problem(await upload, 503)
    after = await bounded.call(bob.key, "GET", "/bulksms")
    assert after.json() == before.json()
    for _ in range(4):
        assert (await _create(bounded, bob.key, bob.workspace)).status_code == 201
    await until(lambda: asyncio.to_thread(small.is_ready, "salesapi"))


async def test_a_killed_salesapi_leaves_no_upload_process(bounded: SecuredSystem, small: System) -> None:
    children = psutil.Process(small.processes["salesapi"].pid).children()
    assert len(children) == small.settings.upload_processes
    small.kill("salesapi")
    try:
        await until(lambda: asyncio.to_thread(lambda: not any(_is_running(child) for child in children)))
    finally:
        small.restart("salesapi")
    assert (await _create(bounded, bounded.bob.key, bounded.bob.workspace)).status_code == 201


async def _create(
    bounded: SecuredSystem, key: str, workspace: UUID, file: bytes = b"Contact Name,Phone Number\nBo,0401234567\n"
) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {key}"}
    return await bounded.client.create(workspace, file, headers=headers)


async def _is_created(bounded: SecuredSystem, key: str, workspace: UUID) -> bool:
    return (await _create(bounded, key, workspace)).status_code == 201


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
