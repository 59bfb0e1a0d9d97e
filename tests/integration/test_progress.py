"""What the dashboard needs: campaigns over the WebSocket, their timeline, and which pages may call."""

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
from websockets.asyncio.client import ClientConnection, connect

from local.launcher import System
from tests.support.client import Client, csv_of, problem
from tests.support.polling import until
from tests.support.workspaces import new_workspace


def watch(client: Client) -> connect:
    return connect(f"{client.webapi.replace('http', 'ws')}/ws")


async def next_campaign(socket: ClientConnection) -> dict[str, Any]:
    """The next campaign message, skipping those of credit."""
    while True:
        message = json.loads(await asyncio.wait_for(socket.recv(), 60))
        if "campaign" in message:
            result: dict[str, Any] = message["campaign"]
            return result


def out_of_queue(campaign: dict[str, Any]) -> int:
    return int(campaign["contacts"] - campaign["queued"])


async def test_a_client_gets_its_campaigns_and_their_progress_to_the_end(
    client: Client, ds: asyncpg.Pool, workspace: UUID
) -> None:
    other = await new_workspace(ds, Decimal(10))
    bulksms_id = await client.created(workspace, csv_of(200))
    async with watch(client) as socket:
        await socket.send(json.dumps({"workspace_id": str(workspace), "campaigns": True}))
        first = await next_campaign(socket)
        assert (first["bulksms_id"], first["status"], first["queued"]) == (bulksms_id, "created", 200)
        others = await client.created(other, csv_of(3, first=1000))
        await client.run(others)
        await client.run(bulksms_id)
        updates = [first]
        while updates[-1]["status"] != "completed":
            updates.append(await next_campaign(socket))
    assert {campaign["bulksms_id"] for campaign in updates} == {bulksms_id}, "got a campaign of another workspace"
    progress = [out_of_queue(campaign) for campaign in updates]
    assert progress == sorted(progress), "a status never goes back"
    await until(lambda: client.completed(others))
    truth = await client.campaign(bulksms_id)
    assert {status: updates[-1][status] for status in truth["contacts"]} == truth["contacts"]
    assert updates[-1]["charged"] == truth["charged"]


async def test_a_change_whose_message_was_lost_still_reaches_the_client(
    client: Client, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(2))
    async with watch(client) as socket:
        await socket.send(json.dumps({"workspace_id": str(workspace), "campaigns": True}))
        await next_campaign(socket)
        await salesdb.execute("UPDATE bulksms SET name = 'renamed' WHERE id = $1", UUID(bulksms_id))
        assert (await next_campaign(socket))["name"] == "renamed"


async def test_the_timeline_ends_with_every_message(client: Client, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(100))
    url = f"{client.salesapi}/bulksms/{bulksms_id}/timeline"
    assert (await client.http.get(url)).json() == {"contacts": 100, "moments": []}
    await client.run(bulksms_id)
    await until(lambda: client.completed(bulksms_id))
    moments = (await client.http.get(url)).json()["moments"]
    assert [moment["at"] for moment in moments] == sorted(moment["at"] for moment in moments)
    counts = (await client.campaign(bulksms_id))["contacts"]
    assert {status: moments[-1][status] for status in ("failed", "delivered", "undelivered")} == {
        status: counts[status] for status in ("failed", "delivered", "undelivered")
    }
    assert moments[0]["delivered"] == 0
    problem(await client.http.get(f"{client.salesapi}/bulksms/mine/timeline"), 404)


async def test_the_system_page_reports_redis_down_without_redis(system: System, client: Client) -> None:
    async def redis() -> str:
        state: str = (await client.http.get(f"{client.webapi}/system/flows")).json()["servers"]["redis"]
        return state

    async def is_up(expected: bool) -> bool:
        return (await redis() == "ok") is expected

    assert system.valkey is not None
    await until(lambda: is_up(True))
    system.valkey.kill()
    await until(lambda: is_up(False))
    system.valkey.start()
    await until(lambda: is_up(True))


async def test_workspaces_are_listed_with_their_credit(client: Client, workspace: UUID) -> None:
    listed: dict[str, Any] = {}
    cursor = ""
    while cursor is not None:
        page = (await client.http.get(f"{client.webapi}/workspaces", params={"cursor": cursor})).json()
        listed |= {workspace["workspace_id"]: workspace for workspace in page["workspaces"]}
        cursor = page["next_cursor"]
    assert listed[str(workspace)]["available"] == "1000.0"
    problem(await client.http.get(f"{client.webapi}/workspaces", params={"cursor": "me"}), 400)


async def test_only_the_dashboard_may_call_salesapi_from_a_browser(client: Client) -> None:
    preflight = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for origin, status in ((client.webapi, 200), ("http://elsewhere.example", 400)):
        response = await client.http.options(f"{client.salesapi}/run", headers={"Origin": origin, **preflight})
        assert response.status_code == status
        assert response.headers.get("access-control-allow-origin") == (origin if status == 200 else None)


async def test_pages_have_a_strict_content_policy_and_files_are_revalidated(client: Client) -> None:
    for path in ("/", "/system"):
        page = await client.http.get(client.webapi + path)
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert f"connect-src 'self' {client.salesapi}" in policy
    assert (await client.http.get(f"{client.webapi}/config.json")).json() == {"salesapi_url": client.salesapi}
    file = await client.http.get(f"{client.webapi}/static/dashboard.js")
    again = await client.http.get(
        f"{client.webapi}/static/dashboard.js", headers={"If-None-Match": file.headers["etag"]}
    )
    assert (file.headers["cache-control"], again.status_code) == ("no-cache", 304)
