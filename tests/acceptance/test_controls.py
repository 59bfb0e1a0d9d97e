"""A campaign's controls: pause, resume, cancel, schedule, retry, and requests sent again under their key."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest

from tests.support.client import Client, csv_of, problem
from tests.support.invariants import check_invariants
from tests.support.polling import until
from tests.support.workspaces import new_workspace


async def control(client: Client, what: str, bulksms_id: str, **more: Any) -> httpx2.Response:
    return await client.http.post(f"{client.salesapi}/{what}", json={"bulksms_id": bulksms_id, **more})


async def has_status(client: Client, bulksms_id: str, status: str) -> bool:
    return bool((await client.campaign(bulksms_id))["status"] == status)


async def ended(client: Client, bulksms_id: str) -> bool:
    return (await client.campaign(bulksms_id))["completed_at"] is not None


@pytest.fixture
async def half_sent(client: Client, workspace: UUID) -> Any:
    """A campaign of 2,000 of which some has gone and most has not, the carrier taking some 50 a second."""
    await client.behave(mps=50)
    bulksms_id = await client.created(workspace, csv_of(2_000))
    await client.run(bulksms_id)
    await until(lambda: _moving(client, bulksms_id))
    return bulksms_id


async def _moving(client: Client, bulksms_id: str) -> bool:
    return bool((await client.campaign(bulksms_id))["contacts"]["queued"] < 2_000)


async def test_a_paused_campaign_continues_after_resume(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID, half_sent: str
) -> None:
    for _ in range(2):
        answer = await control(client, "pause", half_sent)
        assert (answer.status_code, answer.json()["status"]) == (200, "paused")
    await client.behave(mps=0)
    await until(lambda: _quiet(salesdb, half_sent))
    gone = await _submitted(salesdb, half_sent)
    await asyncio.sleep(2.5)  # the worker's schedule has looked for something to send meanwhile
    assert await _submitted(salesdb, half_sent) == gone
    campaign = await client.campaign(half_sent)
    assert campaign["status"] == "paused"
    assert campaign["contacts"]["queued"] > 0
    assert campaign["contacts"]["sent"] == 0, "what had gone went on to its end"
    await client.behave(paused=True)  # so that it cannot end before the last of them is answered
    answers = await asyncio.gather(*(control(client, "resume", half_sent) for _ in range(10)))
    assert {(answer.status_code, answer.json()["status"]) for answer in answers} == {(200, "inprogress")}
    await client.behave(paused=False)
    await until(lambda: client.completed(half_sent))
    await check_invariants(client, ds, salesdb, workspace)
    for what in ("pause", "resume", "cancel"):
        assert "completed" in problem(await control(client, what, half_sent), 409)


async def _submitted(salesdb: asyncpg.Pool, bulksms_id: str) -> int:
    query = "SELECT count(*) FROM bulksms_batch WHERE state = 'submitted' AND bulksms_id = $1"
    return int(await salesdb.fetchval(query, UUID(bulksms_id)))


async def _quiet(salesdb: asyncpg.Pool, bulksms_id: str) -> bool:
    """Nothing of the campaign is under way."""
    query = """
        SELECT NOT EXISTS (
            SELECT FROM bulksms_batch AS b JOIN bulksms_info AS i ON i.bulksms_id = $1
                AND i.seq BETWEEN first_seq AND last_seq
            WHERE b.bulksms_id = $1
              AND (state = 'submitting' OR state = 'submitted' AND sms_status IN ('queued', 'sent'))
        )
    """
    return bool(await salesdb.fetchval(query, UUID(bulksms_id)))


async def test_a_cancelled_campaign_releases_its_unused_credit(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID, half_sent: str
) -> None:
    for _ in range(2):
        answer = await control(client, "cancel", half_sent)
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    await until(lambda: ended(client, half_sent))
    campaign = await client.campaign(half_sent)
    assert 0 < campaign["unsent"] == campaign["contacts"]["queued"] < 2_000
    assert campaign["contacts"]["sent"] == 0
    await check_invariants(client, ds, salesdb, workspace)
    assert (await client.workspace(workspace))["credit"] == str(1000 - Decimal(campaign["charged"]))
    assert "cancelled" in problem(await control(client, "resume", half_sent), 409)


async def test_a_campaign_cancelled_before_its_start_cannot_be_run(client: Client, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(3))
    assert "created" in problem(await control(client, "pause", bulksms_id), 409)
    cancelled = (await control(client, "cancel", bulksms_id)).json()
    assert (cancelled["status"], cancelled["unsent"]) == ("cancelled", 3)
    answer = await client.run(bulksms_id)
    assert "cancelled" in problem(answer, 409)
    assert answer.json()["status_now"] == "cancelled"
    assert (await client.workspace(workspace))["reserved"] == "0.0"
    assert "no campaign" in problem(await control(client, "cancel", str(uuid4())), 404)


async def test_a_campaign_cancelled_during_its_start_holds_no_reservation(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """Whoever comes first: all that was reserved is given back, and nothing can be reserved any more."""
    ids = [await client.created(workspace, csv_of(20)) for _ in range(12)]
    calls = [call for one in ids for call in (client.run(one), control(client, "cancel", one))]
    assert {answer.status_code for answer in await asyncio.gather(*calls)} <= {200, 202, 409}
    for bulksms_id in ids:
        await until(lambda one=bulksms_id: ended(client, one))  # type: ignore[misc]
    await check_invariants(client, ds, salesdb, workspace)
    assert (await client.workspace(workspace))["reserved"] == "0.0"


async def test_a_scheduled_campaign_runs_at_its_time(client: Client, salesdb: asyncpg.Pool, workspace: UUID) -> None:
    late = datetime.now(UTC) + timedelta(days=3)
    bulksms_id = await client.created(workspace, csv_of(5))
    first = await control(client, "run", bulksms_id, scheduled_for=late.isoformat())
    assert (first.status_code, first.json()["status"]) == (202, "scheduled")
    assert datetime.fromisoformat(first.json()["scheduled_for"]) == late
    soon = datetime.now(UTC) + timedelta(seconds=3)
    moved = await control(client, "run", bulksms_id, scheduled_for=soon.isoformat())
    assert moved.json()["status"] == "scheduled"
    await until(lambda: client.completed(bulksms_id))
    assert datetime.fromisoformat((await client.campaign(bulksms_id))["started_at"]) >= soon


async def test_a_campaign_scheduled_on_creation_can_be_paused_and_cancelled(client: Client, workspace: UUID) -> None:
    late = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made = (await client.create(workspace, csv_of(5), scheduled_for=late)).json()
    assert made["status"] == "scheduled"
    for what, status in (("pause", "paused"), ("resume", "scheduled"), ("cancel", "cancelled")):
        assert (await control(client, what, made["bulksms_id"])).json()["status"] == status
    assert (await client.workspace(workspace))["reserved"] == "0.0"


async def test_a_repeated_schedule_request_gets_the_same_response_after_the_start(
    client: Client, workspace: UUID
) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()  # long enough for all that is asked before it
    headers = {"Idempotency-Key": uuid4().hex}
    made = await client.create(workspace, csv_of(3), headers=headers, scheduled_for=soon)
    other = await client.created(workspace, csv_of(2))
    body = {"bulksms_id": other, "scheduled_for": soon}
    run = await client.http.post(f"{client.salesapi}/run", json=body, headers=headers)
    assert (made.status_code, run.status_code) == (201, 202)
    for bulksms_id in (made.json()["bulksms_id"], other):
        await until(lambda one=bulksms_id: client.completed(one))  # type: ignore[misc]
    again = await client.create(workspace, csv_of(3), headers=headers, scheduled_for=soon)
    run_again = await client.http.post(f"{client.salesapi}/run", json=body, headers=headers)
    assert (again.content, run_again.content) == (made.content, run.content)


@pytest.mark.parametrize("moment", ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2030-01-01T00:00:00", "tomorrow"])
async def test_an_invalid_time_is_refused(client: Client, workspace: UUID, moment: str) -> None:
    assert "scheduled_for" in problem(await client.create(workspace, csv_of(1), scheduled_for=moment), 422)
    bulksms_id = await client.created(workspace, csv_of(1))
    assert (await control(client, "run", bulksms_id, scheduled_for=moment)).status_code in (400, 422)
    assert await has_status(client, bulksms_id, "created")


async def test_a_scheduled_campaign_without_credit_is_paused_with_a_reason(client: Client, ds: asyncpg.Pool) -> None:
    poor = await new_workspace(ds, Decimal("0.1"))
    soon = datetime.now(UTC) + timedelta(seconds=3)
    made = (await client.create(poor, csv_of(5), scheduled_for=soon.isoformat())).json()
    await until(lambda: has_status(client, made["bulksms_id"], "paused"))
    assert "0.5 credits are needed" in (await client.campaign(made["bulksms_id"]))["pause_reason"]
    await client.http.post(f"{client.webapi}/workspaces/{poor}/topup", json={"amount": "1"})
    await control(client, "resume", made["bulksms_id"])
    await until(lambda: client.completed(made["bulksms_id"]))


async def test_a_campaign_that_the_carrier_refuses_is_paused(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    await client.behave(trouble="refuse", times=10)
    bulksms_id = await client.created(workspace, csv_of(1_000))
    await client.run(bulksms_id)
    await until(lambda: has_status(client, bulksms_id, "paused"))
    assert "the carrier refused" in (await client.campaign(bulksms_id))["pause_reason"]
    await client.behave(trouble=[])
    assert (await control(client, "resume", bulksms_id)).json()["pause_reason"] is None
    await until(lambda: client.completed(bulksms_id))
    campaign = await client.campaign(bulksms_id)
    assert 100 <= campaign["contacts"]["failed"] < 1_000
    await check_invariants(client, ds, salesdb, workspace)


async def test_failed_contacts_are_retried_in_a_new_campaign(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    await client.behave(failed=1)
    first = await client.created(
        workspace, b"Contact Name,Phone Number\nAino,0401234567\nOnni,0401234568\n", "Hei {Contact Name}"
    )
    url = f"{client.salesapi}/bulksms/{first}/retry-failed"
    assert "created" in problem(await client.http.post(url), 409)
    await client.run(first)
    await until(lambda: client.completed(first))
    await client.behave(failed=0)
    answers = [await client.http.post(url, headers={"Idempotency-Key": "again"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    made = answers[0].json()
    assert answers[1].json() == made
    assert answers[0].headers["location"] == f"/bulksms/{made['bulksms_id']}"
    assert (made["retry_of"], made["accepted"], made["total_cost"], made["status"]) == (first, 2, "0.2", "created")
    await client.run(made["bulksms_id"])
    await until(lambda: client.completed(made["bulksms_id"]))
    assert (await client.campaign(made["bulksms_id"]))["charged"] == "0.2"
    await check_invariants(client, ds, salesdb, workspace)
    nothing = await client.http.post(f"{client.salesapi}/bulksms/{made['bulksms_id']}/retry-failed")
    assert "no failed contacts" in problem(nothing, 409)


async def test_create_with_an_idempotency_key_creates_one_campaign(client: Client, workspace: UUID) -> None:
    key = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*(client.create(workspace, csv_of(50), headers=key) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [201] * 5
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 4
    listed = await client.http.get(f"{client.salesapi}/bulksms", params={"workspace_id": str(workspace)})
    assert len(listed.json()["bulksms"]) == 1
    assert "another request" in problem(await client.create(workspace, csv_of(51), headers=key), 422)
    problem(await client.create(workspace, csv_of(51), headers={"Idempotency-Key": "x" * 300}), 400)


async def test_run_with_an_idempotency_key_gets_the_same_response(client: Client, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(20))
    key = {"Idempotency-Key": uuid4().hex}
    answers = await asyncio.gather(*(client.run(bulksms_id, headers=key) for _ in range(8)))
    await until(lambda: client.completed(bulksms_id))
    answers.append(await client.run(bulksms_id, headers=key))
    assert [answer.status_code for answer in answers] == [202] * 9
    assert len({answer.content for answer in answers}) == 1
    problem(await client.run(bulksms_id), 409)
    other = await client.created(workspace, csv_of(1))
    assert "another request" in problem(await client.run(other, headers=key), 422)
