"""A campaign's life as its owner sees it: create, run, watch, read."""

import asyncio
import csv
import io
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.client import Client, csv_of, problem
from tests.support.invariants import check_invariants
from tests.support.polling import until
from tests.support.workspaces import new_workspace


async def test_a_campaign_completes_and_the_books_balance(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(300))
    answer = await client.run(bulksms_id)
    assert answer.status_code == 202
    assert answer.json()["status"] == "inprogress"
    await until(lambda: client.completed(bulksms_id))
    campaign = await client.campaign(bulksms_id)
    assert sum(campaign["contacts"].values()) == 300
    assert campaign["contacts"]["delivered"] > 200
    assert campaign["contacts"]["failed"] > 0
    assert campaign["contacts"]["queued"] == campaign["contacts"]["sent"] == 0
    assert campaign["started_at"] < campaign["completed_at"]
    assert Decimal(campaign["charged"]) == Decimal("0.1") * (300 - campaign["contacts"]["failed"])
    await check_invariants(client, ds, salesdb, workspace)


async def test_create_reports_accepted_and_rejected_rows_and_the_cost(client: Client, workspace: UUID) -> None:
    upload = "phone number;CITY;Contact_Name\r\n0401234567;Oulu;Åke\r\n+358 40 123 4567;Oulu;Bo\r\n12;Oulu;Cy\r\n"
    answer = await client.create(workspace, upload.encode("latin-1"), "Hei {contact name} in {City}!")
    made = answer.json()
    assert answer.status_code == 201
    assert (made["rows"], made["accepted"], made["rejected"], made["duplicate"]) == (3, 1, 1, 1)
    assert made["rejected_rows"] == [
        {"line": 3, "value": "+358 40 123 4567", "reason": "duplicate number"},
        {"line": 4, "value": "12", "reason": "too short"},
    ]
    assert (made["encoding"], made["segments"], made["total_cost"]) == ("GSM-7", 1, "0.1")
    everything = (await client.http.get(f"{client.salesapi}/bulksms/{made['bulksms_id']}/rejected")).json()
    assert everything == {"rejected": made["rejected_rows"], "next_cursor": None}


async def test_a_long_message_is_charged_per_segment(client: Client, workspace: UUID) -> None:
    made = (await client.create(workspace, csv_of(2), "ж" * 71)).json()
    assert (made["encoding"], made["segments"], made["total_segments"]) == ("UCS-2", 2, 4)
    assert made["total_cost"] == "0.4"


@pytest.mark.parametrize(
    ("upload", "message", "status", "words"),
    [
        (b"Contact Name,Phone\nA,0401234567\n", "Hi", 422, "Phone Number"),
        (b"", "Hi", 422, "empty"),
        (b"Contact Name,Phone Number\n", "Hi", 422, "no rows"),
        (b"Contact Name,Phone Number\nA,1\nB,2\n", "Hi", 422, "none of the 2 rows"),
        (b"PK\x03\x04 and so on", "Hi", 422, "save it as CSV"),
        (b"Contact Name,Phone Number\nA,0401234567\n", "Hi {City}", 422, "city"),
        (b"Contact Name,Phone Number\nA,0401234567\n", " ", 422, "empty"),
        (b"Contact Name,Phone Number\nA,0401234567\n", "a" * 2000, 422, "14 segments"),
        (b'Contact Name,Phone Number\n"A,0401234567\nB,0401234568\n', "Hi", 422, "line 2"),
    ],
)
async def test_a_refused_upload_has_a_reason_and_stores_nothing(
    client: Client, salesdb: asyncpg.Pool, workspace: UUID, upload: bytes, message: str, status: int, words: str
) -> None:
    assert words in problem(await client.create(workspace, upload, message), status)
    assert await salesdb.fetchval("SELECT count(*) FROM bulksms WHERE workspace_id = $1", workspace) == 0


async def test_an_upload_that_fails_late_stores_nothing(client: Client, salesdb: asyncpg.Pool, workspace: UUID) -> None:
    before = await salesdb.fetchval("SELECT count(*) FROM bulksms_info")
    broken = csv_of(30_000) + b"x" * 70_000
    assert "line 30002" in problem(await client.create(workspace, broken), 422)
    assert await salesdb.fetchval("SELECT count(*) FROM bulksms_info") == before


async def test_create_requires_its_fields_and_an_existing_workspace(client: Client) -> None:
    url = f"{client.salesapi}/create"
    assert "multipart" in problem(await client.http.post(url, json={}), 415)
    assert "name" in problem(await client.http.post(url, files={"file": ("a.csv", b"x")}), 400)
    assert "no workspace" in problem(await client.create(uuid4(), csv_of(1)), 404)
    assert "UUID" in problem(await client.create("mine", csv_of(1)), 422)


async def test_concurrent_runs_start_a_campaign_once(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(100))
    answers = await asyncio.gather(*(client.run(bulksms_id) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 19
    await until(lambda: client.completed(bulksms_id))
    await check_invariants(client, ds, salesdb, workspace)
    assert "completed" in problem(await client.run(bulksms_id), 409)


async def test_too_little_credit_is_402_and_changes_nothing(client: Client, ds: asyncpg.Pool) -> None:
    poor = await new_workspace(ds, Decimal("0.9"))
    bulksms_id = await client.created(poor, csv_of(10))
    answer = await client.run(bulksms_id)
    assert "top up" in problem(answer, 402)
    assert (answer.json()["needed"], answer.json()["available"]) == ("1.0", "0.9")
    assert (await client.campaign(bulksms_id))["status"] == "created"
    assert (await client.workspace(poor))["reserved"] == "0.0"


async def test_campaigns_that_compete_for_credit_never_overdraw_it(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool
) -> None:
    """I1: the credit covers 3 of 8."""
    tight = await new_workspace(ds, Decimal("3.5"))
    ids = [await client.created(tight, csv_of(10)) for _ in range(8)]
    await client.behave(paused=True)  # a campaign that ended would give back what a fourth could have
    codes = [answer.status_code for answer in await asyncio.gather(*map(client.run, ids))]
    await client.behave(paused=False)
    assert sorted(codes) == [202] * 3 + [402] * 5
    for bulksms_id, code in zip(ids, codes, strict=True):
        if code == 202:
            await until(lambda one=bulksms_id: client.completed(one))  # type: ignore[misc]
    await check_invariants(client, ds, salesdb, tight)


async def test_run_of_an_unknown_campaign_is_404(client: Client) -> None:
    assert "no campaign" in problem(await client.run(str(uuid4())), 404)
    assert "bulksms_id" in problem(await client.run("x"), 400)
    answer = await client.http.post(f"{client.salesapi}/run", content=b"{")
    assert "JSON" in problem(answer, 400)


async def test_contacts_are_paged_and_filtered_by_status(client: Client, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(25))
    url = f"{client.salesapi}/bulksms/{bulksms_id}/contacts"
    numbers: list[str] = []
    cursor = ""
    while cursor is not None:
        page = (await client.http.get(url, params={"limit": 10, "status": "queued", "cursor": cursor})).json()
        numbers += [contact["contact_number"] for contact in page["contacts"]]
        cursor = page["next_cursor"]
    assert numbers == [f"+35840{i:07d}" for i in range(25)]
    assert (await client.http.get(url, params={"status": "delivered"})).json()["contacts"] == []
    problem(await client.http.get(url, params={"status": "lost"}), 400)
    problem(await client.http.get(url, params={"cursor": "%%%"}), 400)
    problem(await client.http.get(url, params={"limit": "0"}), 400)


async def test_campaigns_are_listed_newest_first(client: Client, workspace: UUID) -> None:
    ids = [await client.created(workspace, csv_of(1)) for _ in range(3)]
    url = f"{client.salesapi}/bulksms"
    first = (await client.http.get(url, params={"workspace_id": str(workspace), "limit": 2})).json()
    rest = (await client.http.get(url, params={"workspace_id": str(workspace), "cursor": first["next_cursor"]})).json()
    assert [one["bulksms_id"] for one in first["bulksms"] + rest["bulksms"]] == ids[::-1]


async def test_results_csv_is_safe_in_spreadsheets_and_can_be_uploaded_again(client: Client, workspace: UUID) -> None:
    names = ['Näkki, "The" Man', "=HYPERLINK(1)", "@x", "-1;=2", "plain"]
    file = io.StringIO()
    csv.writer(file).writerows([("Contact Name", "Phone Number"), *((n, f"040123456{i}") for i, n in enumerate(names))])
    bulksms_id = await client.created(workspace, file.getvalue().encode())
    results = await client.http.get(f"{client.salesapi}/bulksms/{bulksms_id}/results.csv")
    rows = list(csv.DictReader(io.StringIO(results.text)))
    assert [row["contact_name"] for row in rows] == [names[0], "'=HYPERLINK(1)", "'@x", "'-1;'=2", "plain"]
    assert (rows[0]["contact_number"], rows[0]["sms_status"], rows[0]["sms_cost"]) == ("+358401234560", "queued", "0.1")
    again = await client.created(workspace, results.content, "Hi {Contact Name}")
    contacts = (await client.http.get(f"{client.salesapi}/bulksms/{again}/contacts")).json()["contacts"]
    assert [one["contact_name"] for one in contacts] == names
    assert [one["contact_number"] for one in contacts] == [row["contact_number"] for row in rows]


async def test_both_services_report_health_and_readiness(client: Client) -> None:
    for service in (client.webapi, client.salesapi):
        assert (await client.http.get(f"{service}/health")).json() == {"status": "up"}
        ready = (await client.http.get(f"{service}/ready")).json()
        assert set(ready["parts"].values()) == {"ok"}
    problem(await client.http.get(f"{client.salesapi}/nowhere"), 404)
    problem(await client.http.get(f"{client.salesapi}/run"), 405)
