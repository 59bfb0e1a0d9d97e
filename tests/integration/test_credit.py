"""Credit over HTTP, WebSocket and gRPC."""

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from websockets.asyncio.client import ClientConnection, connect

from local.launcher import System
from rpc.client import InsufficientCreditError, NotFoundError, RpcClient
from rpc.stubs import workspace_credit_pb2, workspace_credit_pb2_grpc
from tests.support.client import Client, csv_of, problem
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


@pytest.mark.parametrize("amount", ["0", "-1", "0.05", "NaN", "1e400", "ten", ""])
async def test_an_invalid_amount_is_refused(client: Client, workspace: UUID, amount: str) -> None:
    assert "amount" in problem(await top_up(client, workspace, amount=amount), 422)
    assert (await client.workspace(workspace))["credit"] == "1000.0"


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
        for amount in ("", "0", "-1", "0.05", "x"):
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
