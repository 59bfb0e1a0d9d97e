"""What is kept of people: the erasure of a number, and the retention of campaigns that have ended."""

import hmac
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest

from bulksms import retention
from common.audit_log import worker
from common.database import Database
from local.launcher import System
from tests.support.client import Client, csv_of, problem
from tests.support.invariants import check_invariants
from tests.support.polling import until

NUMBER = "+358409876543"
WAYS = ("040 987 6543", "+358 40 987-6543", "00358409876543")
CSV = (
    "Contact Name,Phone Number\n"
    f"Erin,{WAYS[0]}\nErin again,{WAYS[1]}\nNobody,{WAYS[2]}99999\nAino,0401234567\nOnni,0401234568\n"
).encode()


async def erase(client: Client, number: str, **body: Any) -> httpx2.Response:
    return await client.http.post(f"{client.salesapi}/erase", json={"number": number, **body})


async def tables_with(database: asyncpg.Pool, digits: str) -> list[str]:
    """The tables of a database that hold these digits in any row, whatever stands between them."""
    names = await database.fetch("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
    found = []
    for (name,) in names:
        rows = await database.fetch(f'SELECT t::text AS row FROM "{name}" AS t')
        texts = [row["row"] for row in rows]
        shown_in_hex = [part for text in texts for part in re.findall(r"\\x((?:[0-9a-f]{2})+)", text)]
        texts += [bytes.fromhex(part).decode("utf-8", "ignore") for part in shown_in_hex]
        if any(digits in re.sub(r"[ ().\-]", "", text) for text in texts):
            found.append(name)
    return found


async def test_an_erased_number_is_nowhere_and_gets_no_message(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """In a campaign that has ended, one that is not yet run, and one of this number only."""
    ids = []
    for csv in (CSV, CSV, f"Contact Name,Phone Number\nErin,{NUMBER}\n".encode()):
        made = await client.create(workspace, csv, "Hi {Contact Name}", {"Idempotency-Key": uuid4().hex})
        assert made.status_code == 201, made.text
        ids.append(made.json()["bulksms_id"])
    ended, draft, alone = ids
    await client.run(ended)
    await until(lambda: client.completed(ended))
    assert {"bulksms_info", "bulksms_rejected", "idempotency"} <= set(await tables_with(salesdb, "409876543"))
    problem(await erase(client, "nobody"), 422)
    problem(await erase(client, NUMBER, workspace_id="x"), 400)
    receipt = (await erase(client, WAYS[0])).json()
    assert receipt["erased"] == {"contacts": 3, "unsent": 2, "rejected": 4, "answers": 2}
    for database in (ds, salesdb):
        assert await tables_with(database, "409876543") == []
    hashed = hmac.digest(receipt["proof"].encode(), NUMBER.encode(), "sha256").hex()
    listed = await client.http.get(f"{client.salesapi}/audit", params={"action": "person.erase", "limit": "10"})
    entry = next(one for one in listed.json()["entries"] if one["outcome"] == "done")
    assert (entry["id"], entry["details"]["number_hash"]) == (receipt["id"], hashed)
    assert receipt["proof"] not in str(entry)
    assert (await client.campaign(alone))["status"] == "cancelled"
    submitted = (await client.carrier_stats())["accepted"]
    await client.run(draft)
    await until(lambda: client.completed(draft))
    contacts = (await client.http.get(f"{client.salesapi}/bulksms/{draft}/contacts")).json()["contacts"]
    assert (contacts[0]["contact_number"], contacts[0]["contact_name"]) == ("", "")
    assert (contacts[0]["sms_status"], contacts[0]["error_code"]) == ("failed", "erased")
    assert (await client.carrier_stats())["accepted"] == submitted + 2
    await check_invariants(client, ds, salesdb, workspace)
    assert set((await erase(client, NUMBER)).json()["erased"].values()) == {0}


async def test_an_erasure_in_a_running_campaign_keeps_the_books(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(300, first=5_000))
    await client.behave(paused=True)
    await client.run(bulksms_id)
    await client.http.post(f"{client.salesapi}/pause", json={"bulksms_id": bulksms_id})
    for contact in (5_000, 5_100, 5_299):
        assert (await erase(client, f"+35840{contact:07d}")).json()["erased"]["contacts"] >= 1
    await client.behave(paused=False)
    await client.http.post(f"{client.salesapi}/resume", json={"bulksms_id": bulksms_id})
    await until(lambda: client.completed(bulksms_id))
    await check_invariants(client, ds, salesdb, workspace)


async def test_an_erasure_concerns_one_workspace_if_it_is_limited(
    system: System, client: Client, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, f"Contact Name,Phone Number\nErin,{NUMBER}\n".encode())
    other = (await erase(client, NUMBER, workspace_id=str(uuid4()))).json()
    assert set(other["erased"].values()) == {0}
    async with salesdb.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('erasure'))")
        assert "nothing was erased" in problem(await erase(client, NUMBER), 429)
    assert (await client.campaign(bulksms_id))["status"] == "created"
    assert (await erase(client, NUMBER, workspace_id=str(workspace))).json()["erased"]["contacts"] == 1


@pytest.fixture
async def database(system: System) -> AsyncIterator[Database]:
    database = Database("salesdb", system.settings.salesdb_dsn)
    await database.open()
    yield database
    await database.close()


async def test_the_personal_data_of_a_campaign_goes_and_its_books_stay(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, database: Database, workspace: UUID
) -> None:
    made = await client.create(workspace, csv_of(2_500) + b"Bo,12\n", "Hi {Contact Name}")
    old, recent = made.json()["bulksms_id"], await client.created(workspace, csv_of(3))
    for bulksms_id in (old, recent):
        await client.run(bulksms_id)
        await until(lambda one=bulksms_id: client.completed(one))  # type: ignore[misc]
    before = await client.campaign(old)
    await salesdb.execute("UPDATE bulksms SET completed_at = now() - interval '91 days' WHERE id = $1", UUID(old))
    await retention.set_days(database, workspace, 0, worker("test"))
    await retention.purge(database, 90, 20, worker("test"))
    assert not await _purged(salesdb, old), "this workspace keeps it for ever"
    await retention.set_days(database, workspace, 90, worker("test"))
    while not await _purged(salesdb, old):
        await retention.purge(database, 0, 0.02, worker("test"))  # interrupted, and continued
        await check_invariants(client, ds, salesdb, workspace)
    after = await client.campaign(old)
    assert after.pop("purged_at")
    assert {**before, "message": ""} == {**after, "purged_at": None, "completed_at": before["completed_at"]}
    for path in ("contacts", "rejected", "results.csv", "timeline"):
        assert "retention" in problem(await client.http.get(f"{client.salesapi}/bulksms/{old}/{path}"), 410)
        assert (await client.http.get(f"{client.salesapi}/bulksms/{recent}/{path}")).status_code == 200
    problem(await client.http.post(f"{client.salesapi}/bulksms/{old}/retry-failed"), 410)
    for table in ("bulksms_info", "bulksms_rejected", "bulksms_batch"):
        assert await salesdb.fetchval(f"SELECT count(*) FROM {table} WHERE bulksms_id = $1", UUID(old)) == 0
    late = {"message_id": f"{UUID(old).hex}-0", "status": "delivered", "timestamp": "2026-01-01T00:00:00Z"}
    assert (await client.callback([late])).json() == {"applied": 0, "stale": 0, "unknown": 1}
    listed = await client.http.get(f"{client.salesapi}/audit", params={"object_id": old, "action": "campaign.purge"})
    assert len(listed.json()["entries"]) == 1
    await check_invariants(client, ds, salesdb, workspace)


async def _purged(salesdb: asyncpg.Pool, bulksms_id: str) -> bool:
    return bool(
        await salesdb.fetchval(
            "SELECT purged_at IS NOT NULL AND NOT purge_pending FROM bulksms WHERE id = $1", UUID(bulksms_id)
        )
    )


async def test_a_campaign_that_does_not_add_up_is_not_purged(
    client: Client, salesdb: asyncpg.Pool, database: Database, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(2))
    await salesdb.execute(
        "UPDATE bulksms SET queued_count = 1, failed_count = 1, completed_at = now() - interval '9 years' "
        "WHERE id = $1",
        UUID(bulksms_id),
    )
    await retention.purge(database, 90, 20, worker("test"))
    assert (await client.campaign(bulksms_id))["purged_at"] is None
    await salesdb.execute(
        "UPDATE bulksms SET queued_count = 2, failed_count = 0, completed_at = NULL WHERE id = $1", UUID(bulksms_id)
    )
