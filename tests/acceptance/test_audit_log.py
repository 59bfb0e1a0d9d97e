"""Who did what: each change leaves one entry of the audit log, refused attempts too, and nobody can change it."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest

from local.launcher import System
from tests.support.client import Client, problem
from tests.support.commands import run
from tests.support.polling import until
from tests.support.secured_system import SecuredSystem
from tests.support.system import start

LATE = (datetime.now(UTC) + timedelta(hours=1)).isoformat()


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with start(tmp_path_factory.mktemp("audited"), KEY_CACHE_TTL="0.5") as running:
        yield running


@pytest.fixture(scope="module")
async def secured(audited: System) -> AsyncIterator[SecuredSystem]:
    async with httpx2.AsyncClient(timeout=60) as http:
        made = SecuredSystem(audited, Client(http, audited.settings))
        made.operator = await made.new_key("create", "--operator")
        made.ann, made.bob = await made.owner("ann"), await made.owner("bob")
        yield made


async def entries(secured: SecuredSystem, key: str, service: str, **query: Any) -> list[dict[str, Any]]:
    answer = await secured.call(key, "GET", f"{getattr(secured.client, service)}/audit", params=query)
    assert answer.status_code == 200, answer.text
    listed: list[dict[str, Any]] = answer.json()["entries"]
    return listed


async def test_each_change_of_a_campaign_leaves_one_entry(secured: SecuredSystem) -> None:
    ann, body = secured.ann, {"bulksms_id": secured.ann.bulksms_id}
    for path, more in (
        ("/run", {"scheduled_for": LATE}),
        ("/pause", {}),
        ("/pause", {}),  # nothing changes
        ("/resume", {}),
        ("/cancel", {}),
        ("/cancel", {}),
    ):
        headers = {"X-Request-Id": f"to{path[1:]}"}
        answer = await secured.call(ann.key, "POST", path, json={**body, **more}, headers=headers)
        assert answer.status_code < 300, answer.text
    listed = await entries(secured, ann.key, "salesapi", object_id=ann.bulksms_id)
    actions = [f"campaign.{action}" for action in ("cancel", "resume", "pause", "schedule", "create")]
    assert [entry["action"] for entry in listed] == actions
    key_id = str(UUID(ann.key.split("_")[1]))
    for entry in listed:
        assert (entry["role"], entry["key_id"], entry["outcome"]) == ("workspace", key_id, "done")
        assert (entry["workspace_id"], entry["address"]) == (str(ann.workspace), "127.0.0.1")
    assert listed[0]["request_id"] == "tocancel"


async def test_a_campaign_that_runs_and_is_retried_leaves_one_entry_each(secured: SecuredSystem) -> None:
    bob = secured.bob
    await secured.client.behave(failed=1)
    assert (await secured.call(secured.operator, "POST", "/run", json={"bulksms_id": bob.bulksms_id})).is_success
    await until(lambda: _ended(secured))
    retried = await secured.call(bob.key, "POST", f"/bulksms/{bob.bulksms_id}/retry-failed")
    assert retried.status_code == 201, retried.text
    run, made = await entries(secured, bob.key, "salesapi", object_id=bob.bulksms_id)
    assert (run["action"], run["role"], made["action"]) == ("campaign.run", "operator", "campaign.create")
    (retry,) = await entries(secured, bob.key, "salesapi", action="campaign.retry")
    assert (retry["object_id"], retry["details"]["retry_of"]) == (retried.json()["bulksms_id"], bob.bulksms_id)


async def _ended(secured: SecuredSystem) -> bool:
    answer = await secured.call(secured.operator, "GET", f"/bulksms/{secured.bob.bulksms_id}")
    return bool(answer.json()["completed_at"])


async def test_workspaces_keys_and_top_ups_are_recorded(secured: SecuredSystem) -> None:
    made = json.loads(await secured.command("workspace", "create", "eve", "--credit", "5", "--json"))
    key_id = str(UUID(made["key"].split("_")[1]))
    url = f"{secured.client.webapi}/workspaces/{made['workspace']}/topup"
    for _ in range(2):
        assert (await secured.call(secured.operator, "POST", url, json={"amount": "2", "reference": "a"})).is_success
    await secured.command("key", "rotate", key_id)
    own = await secured.new_key("create", made["workspace"])
    await secured.command("key", "revoke", key_id)
    listed = await entries(secured, own, "webapi")
    assert [entry["action"] for entry in listed] == [
        "key.revoke", "key.create", "key.rotate", "credit.topup", "key.create", "workspace.create",
    ]  # fmt: skip
    assert [entry["role"] for entry in listed] == ["console"] * 3 + ["operator"] + ["console"] * 2
    assert listed[3]["details"] == {"amount": "2.0", "reference": "a"}
    assert listed[0]["object_id"] == key_id
    assert listed[0]["name"]


async def test_refused_attempts_are_recorded_and_throttled(secured: SecuredSystem) -> None:
    ann, bob = secured.ann, secured.bob
    problem(await secured.call(bob.key, "POST", "/pause", json={"bulksms_id": ann.bulksms_id}), 404)
    problem(await secured.call(ann.key, "POST", "/resume", json={"bulksms_id": ann.bulksms_id}), 409)
    url = f"{secured.client.webapi}/workspaces/{ann.workspace}/topup"
    problem(await secured.call(ann.key, "POST", url, json={"amount": "1"}), 403)
    for _ in range(60):
        await secured.call(bob.key, "POST", "/run", json={"bulksms_id": str(uuid4())})

    async def recorded() -> bool:
        return len(await entries(secured, bob.key, "salesapi", action="campaign.run")) > 20

    await until(recorded)
    assert len(await entries(secured, bob.key, "salesapi", action="campaign.run")) == 21  # 20 refused, one done
    (foreign,) = await entries(secured, bob.key, "salesapi", action="campaign.pause")
    assert (foreign["outcome"], foreign["object_id"]) == ("404 No such campaign", ann.bulksms_id)
    late = (await entries(secured, ann.key, "salesapi", action="campaign.resume"))[0]
    assert late["outcome"] == "409 Not in a state for this"
    await until(lambda: _refused_top_up(secured))


async def _refused_top_up(secured: SecuredSystem) -> bool:
    listed = await entries(secured, secured.ann.key, "webapi", action="credit.topup")
    return [entry["outcome"] for entry in listed] == ["403 Operator key needed"]


async def test_a_workspace_sees_its_own_entries_only(secured: SecuredSystem) -> None:
    for service in ("webapi", "salesapi"):
        for owner in (secured.ann, secured.bob):
            seen = await entries(secured, owner.key, service)
            assert {entry["workspace_id"] for entry in seen} == {str(owner.workspace)}
        assert len({entry["workspace_id"] for entry in await entries(secured, secured.operator, service)}) > 1
        url = f"{getattr(secured.client, service)}/audit"
        problem(
            await secured.call(secured.bob.key, "GET", url, params={"workspace_id": str(secured.ann.workspace)}), 404
        )
        problem(await secured.call("", "GET", url), 401)


async def test_pages_and_times_of_the_audit_log(secured: SecuredSystem) -> None:
    whole = await entries(secured, secured.operator, "salesapi")
    url, query, paged = f"{secured.client.salesapi}/audit", {"limit": "7"}, []
    while True:
        page = (await secured.call(secured.operator, "GET", url, params=query)).json()
        paged += page["entries"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert paged == whole
    middle = whole[len(whole) // 2]["at"]
    since = await entries(secured, secured.operator, "salesapi", since=middle)
    until_ = await entries(secured, secured.operator, "salesapi", until=middle)
    assert since + until_ == whole


async def test_the_command_shows_both_logs_by_time(secured: SecuredSystem) -> None:
    settings = secured.system.settings
    environ: dict[str, Any] = {
        "WEBAPI_PORT": str(settings.webapi_port),
        "SALESAPI_PORT": str(settings.salesapi_port),
        "API_KEY": secured.bob.key,
    }
    done = await asyncio.to_thread(partial(run, "python", "console.py", "audit-log", "--json", **environ))
    assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout)
    assert [entry["at"] for entry in listed] == sorted((entry["at"] for entry in listed), reverse=True)
    assert {"workspace.create", "campaign.run"} <= {entry["action"] for entry in listed}


async def test_the_audit_log_only_grows(secured: SecuredSystem) -> None:
    for dsn in (secured.system.settings.ds_dsn, secured.system.settings.salesdb_dsn):
        connection = await asyncpg.connect(dsn)
        for statement in ("UPDATE audit_log SET outcome = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await connection.execute(statement)
        await connection.close()
