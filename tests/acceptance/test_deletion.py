"""Deletion of campaigns, one retry at a time, and quotas: what a customer can store is bounded."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest

from local.launcher import System
from tests.support.client import SECRET, Client, csv_of, problem
from tests.support.invariants import check_invariants
from tests.support.polling import until
from tests.support.system import start
from tests.support.workspaces import new_workspace


async def delete(client: Client, bulksms_id: str) -> httpx2.Response:
    return await client.http.delete(f"{client.salesapi}/bulksms/{bulksms_id}")


async def listed(client: Client, workspace: UUID) -> list[str]:
    answer = await client.http.get(f"{client.salesapi}/bulksms", params={"workspace_id": str(workspace)})
    return [campaign["bulksms_id"] for campaign in answer.json()["bulksms"]]


async def rows(salesdb: asyncpg.Pool, bulksms_id: str) -> int:
    """The rows of a campaign that deletion removes."""
    tables = ("bulksms_info", "bulksms_rejected", "bulksms_batch")
    counts = [
        await salesdb.fetchval(f"SELECT count(*) FROM {table} WHERE bulksms_id = $1", UUID(bulksms_id))
        for table in tables
    ]
    return sum(counts)


async def is_purged(salesdb: asyncpg.Pool, bulksms_id: str) -> bool:
    query = "SELECT NOT purge_pending AND completed_at IS NOT NULL FROM bulksms WHERE id = $1"
    return bool(await salesdb.fetchval(query, UUID(bulksms_id)))


async def failed_campaign(client: Client, workspace: UUID, count: int) -> str:
    """A campaign that has ended with all its contacts failed."""
    await client.behave(failed=1)
    bulksms_id = await client.created(workspace, csv_of(count))
    await client.run(bulksms_id)
    await until(lambda: client.completed(bulksms_id))
    await client.behave(failed=0)
    return bulksms_id


async def test_a_deleted_campaign_is_gone_and_the_books_still_balance(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    draft = await client.created(workspace, csv_of(7_000) + b"Nobody,12\n")
    ended, running = [await client.created(workspace, csv_of(300)) for _ in range(2)]
    await client.behave(paused=True)
    await asyncio.gather(client.run(ended), client.run(running))
    assert "inprogress" in problem(await delete(client, running), 409)
    await client.http.post(f"{client.salesapi}/pause", json={"bulksms_id": running})
    assert "cancel it" in problem(await delete(client, running), 409)
    await client.http.post(f"{client.salesapi}/resume", json={"bulksms_id": running})
    await client.behave(paused=False)
    for bulksms_id in (ended, running):
        await until(lambda one=bulksms_id: client.completed(one))  # type: ignore[misc]
    credit = (await client.workspace(workspace))["credit"]
    for bulksms_id in (draft, ended):
        answers = await asyncio.gather(*(delete(client, bulksms_id) for _ in range(5)))
        assert sorted(answer.status_code for answer in answers) == [204, 404, 404, 404, 404]
        for path in ("", "/contacts", "/rejected", "/results.csv", "/timeline"):
            problem(await client.http.get(f"{client.salesapi}/bulksms/{bulksms_id}{path}"), 404)
        for path in ("run", "pause", "resume", "cancel"):
            problem(await client.http.post(f"{client.salesapi}/{path}", json={"bulksms_id": bulksms_id}), 404)
        problem(await client.http.post(f"{client.salesapi}/bulksms/{bulksms_id}/retry-failed"), 404)
        problem(await client.http.get(f"{client.webapi}/bulksms/{bulksms_id}"), 404)
    assert await listed(client, workspace) == [running]
    for bulksms_id in (draft, ended):
        await until(lambda one=bulksms_id: is_purged(salesdb, one))  # type: ignore[misc]
        assert await rows(salesdb, bulksms_id) == 0
        late = {"message_id": f"{UUID(bulksms_id).hex}-0", "status": "delivered", "timestamp": "2030-01-01T00:00:00Z"}
        assert (await client.callback(late)).json() == {"applied": 0, "stale": 0, "unknown": 1}
    await check_invariants(client, ds, salesdb, workspace)
    after = await client.workspace(workspace)
    assert (after["credit"], after["reserved"]) == (credit, "0.0")
    problem(await delete(client, str(uuid4())), 404)


async def test_a_draft_is_either_run_or_deleted(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    ids = [await client.created(workspace, csv_of(20)) for _ in range(12)]
    calls = [call for one in ids for call in (client.run(one), delete(client, one))]
    answers = await asyncio.gather(*calls)
    for bulksms_id, run, deleted in zip(ids, answers[::2], answers[1::2], strict=True):
        assert (run.status_code, deleted.status_code) in {(202, 409), (404, 204), (409, 204), (202, 204)}
        if deleted.status_code != 204:
            await until(lambda one=bulksms_id: client.completed(one))  # type: ignore[misc]
        else:
            await until(lambda one=bulksms_id: is_purged(salesdb, one))  # type: ignore[misc]
    await check_invariants(client, ds, salesdb, workspace)
    assert (await client.workspace(workspace))["reserved"] == "0.0"


async def test_a_campaign_has_one_retry_at_a_time(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    original = await failed_campaign(client, workspace, 3)
    url = f"{client.salesapi}/bulksms/{original}/retry-failed"
    answers = await asyncio.gather(*(client.http.post(url) for _ in range(40)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 39
    [first] = [answer.json()["bulksms_id"] for answer in answers if answer.status_code == 201]
    refused = await client.http.post(url)
    assert first in problem(refused, 409)
    assert refused.json()["retry"] == first
    assert (await delete(client, first)).status_code == 204
    second = (await client.http.post(url)).json()["bulksms_id"]
    await client.run(second)
    await until(lambda: client.completed(second))
    keys = [{"Idempotency-Key": "third"}] * 5
    again = await asyncio.gather(*(client.http.post(url, headers=key) for key in keys))
    third = {answer.json()["bulksms_id"] for answer in again if answer.status_code == 201}
    assert len(third) == 1
    assert {answer.status_code for answer in again} <= {201, 409}
    repeated = await client.http.post(url, headers=keys[0])
    assert (repeated.status_code, {repeated.json()["bulksms_id"]}) == (201, third)
    await check_invariants(client, ds, salesdb, workspace)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with small quotas."""
    quotas = {"QUOTA_DRAFTS": "3", "QUOTA_OPEN_CONTACTS": "50", "QUOTA_CONTACTS": "60"}
    with start(tmp_path_factory.mktemp("small"), CARRIER_FAILED="1", CALLBACK_SECRETS=SECRET, **quotas) as running:
        yield running


@pytest.fixture
async def bounded(small: System) -> AsyncIterator[tuple[Client, asyncpg.Pool, UUID]]:
    """A client of the system with small quotas, its salesdb, and a workspace."""
    async with (
        httpx2.AsyncClient(timeout=60) as http,
        asyncpg.create_pool(small.settings.ds_dsn, min_size=0) as ds,
        asyncpg.create_pool(small.settings.salesdb_dsn, min_size=0) as salesdb,
    ):
        yield Client(http, small.settings), salesdb, await new_workspace(ds, Decimal(100))


async def test_quotas_hold_also_for_concurrent_requests(bounded: tuple[Client, asyncpg.Pool, UUID]) -> None:
    client, salesdb, workspace = bounded
    answers = await asyncio.gather(*(client.create(workspace, csv_of(2)) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [409] * 7
    full = next(answer for answer in answers if answer.status_code == 409)
    assert "3" in problem(full, 409)
    assert numbers(full) == ("drafts", 3, 3, 1)
    drafts = await listed(client, workspace)
    assert len(drafts) == 3
    assert (await delete(client, drafts[0])).status_code == 204
    key = {"Idempotency-Key": "the last"}
    repeated = await asyncio.gather(*(client.create(workspace, csv_of(2), headers=key) for _ in range(4)))
    assert [answer.status_code for answer in repeated] == [201] * 4, "one campaign, within the quota"
    for bulksms_id in await listed(client, workspace):
        assert (await delete(client, bulksms_id)).status_code == 204
        await until(lambda one=bulksms_id: is_purged(salesdb, one))  # type: ignore[misc]
    await until(lambda: is_purged(salesdb, drafts[0]))
    both = await asyncio.gather(*(client.create(workspace, csv_of(30)) for _ in range(2)))
    assert sorted(answer.status_code for answer in both) == [201, 409]
    assert numbers(next(one for one in both if one.status_code == 409)) == ("open_contacts", 50, 30, 30)
    [bulksms_id] = await listed(client, workspace)
    await client.run(bulksms_id)
    await until(lambda: client.completed(bulksms_id))
    answer = await client.create(workspace, csv_of(31))
    assert numbers(answer) == ("contacts", 60, 30, 31)
    assert "delete" in problem(answer, 409)
    assert (await client.create(workspace, csv_of(10))).status_code == 201
    retry = await client.http.post(f"{client.salesapi}/bulksms/{bulksms_id}/retry-failed")
    assert numbers(retry) == ("contacts", 60, 40, 30)


def numbers(answer: httpx2.Response) -> tuple[Any, ...]:
    body = answer.json()
    return tuple(body.get(name) for name in ("quota", "limit", "used", "needed"))
