"""Credit over HTTP, WebSocket and gRPC."""

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import msgspec
import pytest
from click.testing import CliRunner
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect

from common import audit_log
from common.jobs import JobQueue
from common.settings import SettingsError, load
from common.topology import GENERAL_QUEUE, SALES_QUEUE
from console import cli
from local.launcher import System
from rpc.client import InsufficientCreditError, NotFoundError, RpcClient
from rpc.stubs import workspace_credit_pb2, workspace_credit_pb2_grpc
from tests.support.client import Client, csv_of, problem
from tests.support.invariants import check_invariants
from tests.support.polling import until
from tests.support.workspaces import new_workspace


def watch(client: Client) -> connect:
    return connect(f"{client.webapi.replace('http', 'ws')}/ws")


async def next_message(socket: ClientConnection) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 60))
    return result


async def top_up(client: Client, workspace: UUID, **body: Any) -> Any:
    return await client.http.post(f"{client.webapi}/workspaces/{workspace}/topup", json=body)


async def test_a_top_up_is_added_once_per_reference(client: Client, workspace: UUID) -> None:
    for _ in range(2):
        response = await top_up(client, workspace, amount="12.5", reference="invoice 7")
        assert (response.status_code, response.json()["credit"]) == (200, "1012.5")
    assert (await client.workspace(workspace))["available"] == "1012.5"


async def test_a_reference_used_again_for_another_amount_is_refused_with_both(client: Client, workspace: UUID) -> None:
    await top_up(client, workspace, amount="12.5", reference="invoice 7")
    answers = await asyncio.gather(*(top_up(client, workspace, amount="99", reference="invoice 7") for _ in range(3)))
    for answer in answers:
        detail = problem(answer, 422)
        assert "12.5" in detail
        assert "99.0" in detail
        assert (answer.json()["recorded"], answer.json()["amount"]) == ("12.5", "99.0")
    for amount in ("12.5", "012.5"):
        assert (await top_up(client, workspace, amount=amount, reference="invoice 7")).json()["credit"] == "1012.5"


_NOT_AMOUNTS = [
    "0", "-1", "+5", "0.05", "1.50", ".5", "5.", "NaN", "Infinity", "1e2", "1e400", "1_0", " 5", "5 ", "5\n",
    "\u0661\u0662", "1234567890123", "ten", "",
]  # fmt: skip


@pytest.mark.parametrize("amount", _NOT_AMOUNTS)
async def test_an_invalid_amount_is_refused(client: Client, workspace: UUID, amount: str) -> None:
    assert "amount" in problem(await top_up(client, workspace, amount=amount), 422)
    assert (await client.workspace(workspace))["credit"] == "1000.0"


def test_the_command_line_refuses_the_same_amounts() -> None:
    for amount in set(_NOT_AMOUNTS) - {"0", ""}:
        done = CliRunner().invoke(cli, ["workspace", "create", "x", f"--credit={amount}"])
        assert done.exit_code == 2, amount
        assert "amount" in done.output


@pytest.mark.parametrize("price", ["NaN", "sNaN", "Infinity", "-1", "0.05"])
def test_the_price_is_a_number(price: str) -> None:
    with pytest.raises(SettingsError, match="SMS_PRICE"):
        load({"SMS_PRICE": price})


async def test_no_column_of_credits_holds_nan_or_less_than_0(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """Whatever a program does: the databases refuse it."""
    bulksms_id = await client.created(workspace, csv_of(1))
    await client.run(bulksms_id)
    await until(lambda: client.completed(bulksms_id))
    ours = {"workspace": workspace, "reservation": workspace, "ledger": workspace, "bulksms": UUID(bulksms_id)}
    ours |= {"bulksms_info": UUID(bulksms_id), "outbox": UUID(bulksms_id)}
    keys = {"workspace": "id", "bulksms": "id", "bulksms_info": "bulksms_id", "outbox": "bulksms_id"}
    for database in (ds, salesdb):
        columns = await database.fetch(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE table_schema = 'public' AND data_type = 'numeric'"
        )
        assert len(columns) in (6, 5)
        for table, column in columns:
            for value in ("NaN", "-0.1", "Infinity"):
                statement = (
                    f"UPDATE {table} SET {column} = $2::text::numeric WHERE {keys.get(table, 'workspace_id')} = $1"
                )
                with pytest.raises((asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError)):
                    await database.execute(statement, ours[table], value)


def charge(workspace: UUID | str, campaign: UUID | str, amount: str, **more: str) -> dict[str, str]:
    """An entry of the job `deduct_credit`."""
    entry = {"reference": str(uuid4()), "workspace_id": str(workspace), "campaign_id": str(campaign)}
    return {**entry, "kind": "charge", "amount": amount, **more}


async def test_a_job_that_is_not_what_we_send_changes_no_credit(
    system: System, client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """Who can write to Redis sends jobs: those that do not fit are dropped and counted, ds checks the others."""
    bulksms_id = await client.created(workspace, csv_of(2))
    await client.run(bulksms_id)
    await until(lambda: client.completed(bulksms_id))
    discarded = await client.created(workspace, csv_of(2))
    await client.http.post(f"{client.salesapi}/cancel", json={"bulksms_id": discarded})
    await check_invariants(client, ds, salesdb, workspace)
    before = await client.workspace(workspace)
    amounts = ("NaN", "sNaN", "Infinity", "-1", "0", "1e2", "1_0", "\u0661", "0.05", "9" * 40, "")
    bad = [charge(workspace, bulksms_id, amount) for amount in amounts]
    bad += [charge(workspace, bulksms_id, "1", **{name: "x"}) for name in ("reference", "campaign_id", "kind")]
    actor = msgspec.to_builtins(audit_log.console())
    jobs: dict[str, list[list[Any]]] = {
        "deduct_credit": [[[entry]] for entry in bad] + [[], [1], [[1]], ["x"], [None], [[{}], 1]],
        "topup_credit": [
            [str(workspace), "NaN", "r", actor],
            [str(workspace), "1", "", actor],
            [str(workspace), "1", "r", {"role": "nobody"}],
            [1, "1", "r", actor],
            ["x", "1", "r", actor],
            [],
        ],
        "send_campaign": [[], [1], ["x"], [str(uuid4()), 1], [str(uuid4())]],
        "settle_outbox": [[], ["x"], [["x"]], [[1]], [None]],
        "generate_system_stat": [[str(uuid4()), "x"], [str(uuid4()), float("nan")], [str(uuid4()), -1.0], [1, 1.0]],
    }
    refused = [
        charge(workspace, uuid4(), "1"),
        charge(uuid4(), bulksms_id, "1"),
        charge(workspace, discarded, "0.1"),
        charge(workspace, bulksms_id, "100.0"),
    ]
    queue = JobQueue.connect(system.settings.redis_url)
    try:
        for job, calls in jobs.items():
            for arguments in calls:
                name = GENERAL_QUEUE if job in ("deduct_credit", "topup_credit") else SALES_QUEUE
                await queue.send(name, job, *arguments)
        await queue.send(GENERAL_QUEUE, "deduct_credit", refused)
        for name in (GENERAL_QUEUE, SALES_QUEUE):
            await until(lambda name=name: _is_empty(queue, name))  # type: ignore[misc]
        current = await queue.call(GENERAL_QUEUE, "topup_credit", str(workspace), "1.0", "good", actor, timeout=60)
    finally:
        await queue.close()
    assert Decimal(current["credit"]) == Decimal(before["credit"]) + 1
    references = [entry["reference"] for entry in (*bad, *refused)]
    assert await ds.fetchval("SELECT count(*) FROM ledger WHERE reference = ANY($1)", references) == 0
    for worker, least in (("general_worker", 20), ("sales_worker", 12)):
        assert await _dropped(client, worker) >= least
    await check_invariants(client, ds, salesdb, workspace)
    system.check()


async def _is_empty(queue: JobQueue, name: str) -> bool:
    return not await queue._redis.zcard(name)


async def _dropped(client: Client, worker: str) -> float:
    answer = await client.http.get(f"{client.metrics_urls[worker]}/metrics")
    return sum(
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "bulksms_failures_total" and sample.labels["name"] == "job with invalid arguments"
    )


async def test_an_unknown_workspace_is_404(client: Client) -> None:
    assert "no workspace" in problem(await top_up(client, uuid4(), amount="1"), 404)
    problem(await client.http.get(f"{client.webapi}/workspaces/{uuid4()}"), 404)
    problem(await client.http.get(f"{client.webapi}/workspaces/mine"), 404)


async def test_a_client_gets_the_credit_at_once_and_every_change(client: Client, workspace: UUID) -> None:
    async with watch(client) as socket:
        await socket.send(json.dumps({"workspace_id": str(workspace)}))
        first = await next_message(socket)
        assert (first["workspace_id"], first["credit"]) == (str(workspace), "1000.0")
        await top_up(client, workspace, amount="1")
        second = await next_message(socket)
        assert second["credit"] == "1001.0"
        assert second["version"] > first["version"]


async def test_one_connection_follows_several_workspaces_and_survives_errors(client: Client, ds: asyncpg.Pool) -> None:
    ids = [await new_workspace(ds, Decimal(n)) for n in (1, 2)]
    async with watch(client) as socket:
        await socket.send("nonsense")
        assert "workspace_id" in (await next_message(socket))["error"]
        await socket.send(json.dumps({"workspace_id": str(uuid4())}))
        assert "no workspace" in (await next_message(socket))["error"]
        await socket.send(json.dumps({"workspace_id": [str(workspace_id) for workspace_id in ids]}))
        assert {(await next_message(socket))["credit"] for _ in ids} == {"1.0", "2.0"}


async def test_clients_end_on_the_true_credit_even_if_a_message_was_lost(
    system: System, client: Client, ds: asyncpg.Pool, workspace: UUID
) -> None:
    """I7: a change whose message is lost still reaches the client."""
    async with watch(client) as socket:
        await socket.send(json.dumps({"workspace_id": str(workspace)}))
        await next_message(socket)
        await ds.execute("UPDATE workspace SET credit = credit + 7, version = version + 1 WHERE id = $1", workspace)
        assert (await next_message(socket))["credit"] == "1007.0"
        await ds.execute("UPDATE workspace SET credit = credit - 7, version = version + 1 WHERE id = $1", workspace)


async def test_a_slow_client_gets_the_latest_not_a_queue(client: Client, ds: asyncpg.Pool, workspace: UUID) -> None:
    """I7: versions only grow, and the last is the true credit, for a client that reads after the end."""
    async with watch(client) as socket:
        await socket.send(json.dumps({"workspace_id": str(workspace)}))
        bulksms_id = await client.created(workspace, csv_of(200))
        await client.run(bulksms_id)
        await until(lambda: client.completed(bulksms_id))
        await until(lambda: _unreserved(client, workspace))
        truth = await client.workspace(workspace)
        versions: list[int] = []
        while not versions or versions[-1] < truth["version"]:
            last = await next_message(socket)
            versions.append(last["version"])
        assert versions == sorted(set(versions))
        assert last == truth


async def _unreserved(client: Client, workspace: UUID) -> bool:
    return bool((await client.workspace(workspace))["reserved"] == "0.0")


async def test_webapi_gets_campaigns_from_rpc(client: Client, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(3))
    campaign = (await client.http.get(f"{client.webapi}/bulksms/{bulksms_id}")).json()
    assert (campaign["status"], campaign["contacts"], campaign["queued"], campaign["total_cost"]) == (
        "created",
        3,
        3,
        "0.3",
    )
    listed = (await client.http.get(f"{client.webapi}/workspaces/{workspace}/bulksms")).json()
    assert [listing["bulksms_id"] for listing in listed["bulksms"]] == [bulksms_id]
    problem(await client.http.get(f"{client.webapi}/bulksms/{uuid4()}"), 404)


async def test_rpc_reserves_once_and_releases_once(system: System, client: Client, ds: asyncpg.Pool) -> None:
    workspace, campaign = await new_workspace(ds, Decimal(10)), uuid4()
    rpc = RpcClient(system.settings.rpc_address, 30)
    for _ in range(2):
        assert (await rpc.reserve_credit(workspace, campaign, Decimal("4.2"))).available == Decimal("5.8")
    with pytest.raises(InsufficientCreditError) as error:
        await rpc.reserve_credit(workspace, uuid4(), Decimal(6))
    assert (error.value.needed, error.value.available) == ("6.0", "5.8")
    for _ in range(2):
        assert (await rpc.release_credit(workspace, campaign)).available == Decimal(10)
    with pytest.raises(NotFoundError):
        await rpc.get_workspace_credit(uuid4())
    assert (await rpc.get_workspace_credit(workspace)).credit == Decimal(10)
    await rpc.close()


async def test_rpc_returns_the_right_status_codes(system: System, workspace: UUID) -> None:
    async with grpc.aio.insecure_channel(system.settings.rpc_address) as channel:
        stub = workspace_credit_pb2_grpc.WorkspaceCreditStub(channel)
        for amount in ("", "0", "-1", "0.05", "x", "1e2", "1_0", "+5", " 5", "NaN", "\u0661"):
            request = workspace_credit_pb2.ReserveCreditRequest(
                workspace_id=str(workspace), campaign_id=str(uuid4()), amount=amount
            )
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await stub.ReserveCredit(request, timeout=30)
            assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.GetWorkspaceCredit(
                workspace_credit_pb2.GetWorkspaceCreditRequest(workspace_id="mine"), timeout=30
            )
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "workspace_credit.WorkspaceCredit", "bulksms.BulkSms"):
            response = await health.Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
            assert response.status == health_pb2.HealthCheckResponse.SERVING
