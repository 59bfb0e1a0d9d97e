"""What comes late, or not at all: refusals, silence, a start cut short, a charge beyond the credit."""

from decimal import Decimal
from uuid import UUID

import asyncpg

from rpc import audit
from tests.support.client import Client, csv_of
from tests.support.invariants import check_invariants
from tests.support.polling import until
from tests.support.workspaces import new_workspace


async def test_a_batch_that_is_refused_fails_and_is_not_charged(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    await client.behave(trouble="refuse", times=1)
    bulksms_id = await client.created(workspace, csv_of(40))
    await client.run(bulksms_id)
    await until(lambda: client.completed(bulksms_id))
    campaign = await client.campaign(bulksms_id)
    assert (campaign["contacts"]["failed"], campaign["charged"]) == (40, "0.0")
    await check_invariants(client, ds, salesdb, workspace)


async def test_a_batch_of_unknown_state_is_not_failed_by_a_later_refusal(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """The carrier takes it, the answer is lost, and the next try is refused: its reports tell what became of it."""
    await client.behave(trouble=["lose_answer", "refuse"], paused=True)
    bulksms_id = await client.created(workspace, csv_of(40))
    await client.run(bulksms_id)
    unknown = "SELECT state = 'unknown' FROM bulksms_batch WHERE bulksms_id = $1"
    await until(lambda: salesdb.fetchval(unknown, UUID(bulksms_id)))
    await client.behave(paused=False)
    await until(lambda: client.completed(bulksms_id))
    contacts = (await client.http.get(f"{client.salesapi}/bulksms/{bulksms_id}/contacts")).json()["contacts"]
    assert "refused" not in {contact["error_code"] for contact in contacts}
    await check_invariants(client, ds, salesdb, workspace)


async def test_a_message_without_a_report_expires(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """The validity period is a day; here the batch is made a day older."""
    await client.behave(paused=True)
    bulksms_id = await client.created(workspace, csv_of(10))
    await client.run(bulksms_id)
    aged = (
        "UPDATE bulksms_batch SET submitted_at = submitted_at - interval '2 days' "
        "WHERE bulksms_id = $1 AND state = 'submitted'"
    )
    await until(lambda: _changes(salesdb, aged, UUID(bulksms_id)))
    await until(lambda: client.completed(bulksms_id))
    campaign = await client.campaign(bulksms_id)
    assert campaign["contacts"]["undelivered"] == 10
    contacts = (await client.http.get(f"{client.salesapi}/bulksms/{bulksms_id}/contacts")).json()["contacts"]
    assert {contact["error_code"] for contact in contacts} == {"expired"}
    await check_invariants(client, ds, salesdb, workspace)


async def _changes(salesdb: asyncpg.Pool, statement: str, bulksms_id: UUID) -> bool:
    return bool((await salesdb.execute(statement, bulksms_id)) != "UPDATE 0")


async def test_an_interrupted_run_is_finished(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(5))
    await salesdb.execute(
        "UPDATE bulksms SET run_requested_at = now() - interval '1 minute' WHERE id = $1", UUID(bulksms_id)
    )
    await until(lambda: client.completed(bulksms_id))
    await check_invariants(client, ds, salesdb, workspace)


async def test_a_charge_beyond_the_credit_is_settled_after_a_top_up_and_delays_no_other(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool
) -> None:
    """A carrier that says `failed` and, when the campaign has ended and its money is spent, `delivered`."""
    poor = await new_workspace(ds, Decimal("0.1"))
    bulksms_id = await client.created(poor, csv_of(1))
    message_id = f"{UUID(bulksms_id).hex}-0"
    report = {"message_id": message_id, "timestamp": "2026-01-01T00:00:00Z"}
    await client.behave(paused=True)
    await client.run(bulksms_id)
    await until(lambda: _applied(client, {**report, "status": "failed"}))  # once the carrier has the message
    await until(lambda: _unreserved(client, poor))
    await ds.execute("UPDATE workspace SET credit = 0, version = version + 1 WHERE id = $1", poor)
    await client.callback({**report, "status": "delivered"})
    other = await new_workspace(ds, Decimal(10))
    second = await client.created(other, csv_of(20, first=50))
    await client.run(second)
    await client.behave(paused=False)
    await until(lambda: client.completed(second))
    await check_invariants(client, ds, salesdb, other)
    assert not await audit.is_settled(salesdb, poor)
    assert (await client.workspace(poor))["credit"] == "0.0"
    await client.http.post(f"{client.webapi}/workspaces/{poor}/topup", json={"amount": "0.1"})
    await until(lambda: audit.is_settled(salesdb, poor))
    assert (await client.workspace(poor))["credit"] == "0.0"


async def _applied(client: Client, report: dict[str, str]) -> bool:
    return bool((await client.callback(report)).json()["applied"])


async def _unreserved(client: Client, workspace: UUID) -> bool:
    return bool((await client.workspace(workspace))["reserved"] == "0.0")
