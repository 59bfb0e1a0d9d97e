"""Who may do what, on a system of its own: with keys, a token, mutual TLS, and a secret of callbacks it made up."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import pytest
import trustme
from click.testing import CliRunner
from msgspec.structs import replace
from playwright.async_api import Browser, expect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bulksms.report_writer import ReportWriter
from cli.admin import with_key
from cli.demo import demo
from cli.display import Screen
from cli.errors import RefusedError
from cli.session import Session, with_client
from common.settings import ROOT
from console import cli
from local.launcher import System
from rpc import security
from rpc.client import RpcClient, RpcTokenError, RpcUnavailableError
from rpc.security import ClientSecurity
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.endpoints.campaigns import CampaignEndpoints
from salesapi.salesapi.endpoints.create import CreateEndpoint
from salesapi.salesapi.endpoints.erase import EraseEndpoint
from salesapi.salesapi.endpoints.lifecycle import LifecycleEndpoints
from salesapi.salesapi.operations import operations as salesapi_operations
from tests.support.browser import NEEDS_CHROMIUM
from tests.support.client import Client, csv_of, problem, signed
from tests.support.polling import until
from tests.support.secured_system import Owner, SecuredSystem, certificates
from tests.support.system import start
from webapi.webapi.endpoints import Endpoints as WebEndpoints
from webapi.webapi.operations import operations as webapi_operations
from webapi.webapi.system_status import SystemMonitor

TOKEN = "a token of the tests of security"


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    environ = {
        **certificates(tmp_path_factory.mktemp("certificates")),
        "RPC_TOKEN": TOKEN,
        "RPC_TIMEOUT": "2",
        "KEY_CACHE_TTL": "0.5",
        "RATE_LIMIT": "20",
        "RATE_BURST": "40",
    }
    with start(tmp_path_factory.mktemp("protected"), **environ) as running:
        yield running


@pytest.fixture(scope="module")
async def secured(protected: System) -> AsyncIterator[SecuredSystem]:
    async with httpx2.AsyncClient(timeout=60) as http:
        made = SecuredSystem(protected, Client(http, protected.settings))
        assert await made.status("", "/bulksms") == 200, "no key is needed while none was made"
        made.operator = await made.new_key("create", "--operator")
        await until(lambda: _closed(made))
        made.ann, made.bob = await made.owner("ann"), await made.owner("bob")
        yield made


async def _closed(secured: SecuredSystem) -> bool:
    return {await secured.status("", url) for url in ("/bulksms", f"{secured.client.webapi}/bulksms/{uuid4()}")} == {
        401
    }


def routes() -> list[tuple[str, str, str]]:
    """Service, method and path of all that the two services answer about campaigns and workspaces."""
    nothing: Any = None
    create = CreateEndpoint(nothing, nothing, nothing, uploads=nothing, space=nothing, max_bytes=1)
    callback = Callback(ReportWriter(nothing, buffer=1, flush=1, on_entries=nothing), nothing)
    nothing_to_erase = EraseEndpoint(nothing, "FI", nothing)
    lifecycle, campaigns = LifecycleEndpoints(nothing, nothing, nothing, nothing), CampaignEndpoints(nothing, nothing)
    web = WebEndpoints(nothing, nothing, nothing)
    return [
        *(
            ("salesapi", one.method, one.path)
            for one in salesapi_operations(create, lifecycle, campaigns, callback, nothing_to_erase, [])
            if one.path not in ("/create", "/callback", "/erase")
        ),
        *(("webapi", one.method, one.path) for one in webapi_operations(web, SystemMonitor(), []) if "{" in one.path),
    ]


@pytest.mark.parametrize(("service", "method", "path"), routes())
async def test_a_key_gives_no_access_to_other_workspaces(
    secured: SecuredSystem, service: str, method: str, path: str
) -> None:
    """404 as for what is not there, word for word; 401 without a key; the owner and an operator see it."""
    ann, bob = secured.ann, secured.bob

    async def ask(key: str, workspace: UUID, bulksms_id: str) -> httpx2.Response:
        url = getattr(secured.client, service) + path.format(workspace_id=workspace, bulksms_id=bulksms_id)
        query = {"workspace_id": str(workspace)} if path == "/bulksms" else {}
        body = {"bulksms_id": bulksms_id} if method == "POST" else None
        return await secured.call(key, method, url, params=query, json=body)

    hidden = await ask(bob.key, ann.workspace, ann.bulksms_id)
    missing_workspace, missing_campaign = uuid4(), str(uuid4())
    missing = await ask(bob.key, missing_workspace, missing_campaign)
    detail = problem(missing, 404).replace(missing_campaign, ann.bulksms_id)
    assert problem(hidden, 404) == detail.replace(str(missing_workspace), str(ann.workspace))
    anonymous = await ask("", ann.workspace, ann.bulksms_id)
    assert "Authorization" in problem(anonymous, 401)
    assert anonymous.headers["www-authenticate"].startswith("Bearer")
    assert problem(await ask("bsk_0_0", ann.workspace, ann.bulksms_id), 401)
    if method == "GET":
        for key in (ann.key, secured.operator):
            assert (await ask(key, ann.workspace, ann.bulksms_id)).status_code == 200


async def test_workspaces_are_listed_to_operators_and_its_own_to_each_key(secured: SecuredSystem) -> None:
    url = f"{secured.client.webapi}/workspaces"

    async def listed(key: str) -> set[str]:
        return {one["workspace_id"] for one in (await secured.call(key, "GET", url)).json()["workspaces"]}

    assert await listed(secured.bob.key) == {str(secured.bob.workspace)}
    assert {str(secured.ann.workspace), str(secured.bob.workspace)} < await listed(secured.operator)
    problem(await secured.call("", "GET", url), 401)


async def test_the_system_is_shown_to_operators(secured: SecuredSystem) -> None:
    url = f"{secured.client.webapi}/system/flows"
    assert [await secured.status(key, url) for key in ("", secured.ann.key, secured.operator)] == [401, 403, 200]


async def test_keys_and_workspaces_are_printed_as_json(secured: SecuredSystem) -> None:
    made = json.loads(await secured.command("workspace", "create", "scripts", "--json"))
    rotated = json.loads(await secured.command("key", "rotate", made["key"].split("_")[1], "--json"))["key"]
    listed = json.loads(await secured.command("key", "list", "--json"))
    assert made["workspace"] in {key["workspace_id"] for key in listed}
    assert [await secured.status(key, "/bulksms") for key in (made["key"], rotated)] == [401, 200]
    books = json.loads(await secured.command("audit", "--json", "--workspace", made["workspace"]))
    assert (books["workspaces"], books["differences"]) == (1, [])


async def test_the_command_line_finds_the_workspace_of_its_key(secured: SecuredSystem) -> None:
    settings = replace(secured.system.settings, api_key=secured.ann.key)
    screen = Screen(as_json=True)

    async def look(session: Session) -> bool:
        assert await session.workspace(None) == str(secured.ann.workspace)
        return True

    assert await with_client(settings, screen, look)


@NEEDS_CHROMIUM
async def test_the_dashboard_asks_for_a_key_and_shows_what_it_may(secured: SecuredSystem, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(secured.client.webapi)
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("The server needs an API key: ask its operator for the key of your workspace.")
    await dialog.get_by_label("API key").fill(secured.ann.key)
    await dialog.get_by_role("button", name="Use this key").click()
    await expect(page.locator("#connection")).to_have_text("live")
    await expect(page.locator("#credit")).to_have_text(re.compile(r"^[0-9]"))
    await expect(page.locator("article")).to_contain_text("ann")
    await expect(page.locator("#workspace option:checked")).to_have_text("ann")
    await page.close()


async def test_a_campaign_is_created_in_ones_own_workspace_only(secured: SecuredSystem) -> None:
    fields = {"name": "x", "message": "Hi", "workspace_id": str(secured.ann.workspace)}
    options: dict[str, Any] = {"data": fields, "files": {"file": ("a.csv", csv_of(1))}}
    assert "no workspace" in problem(await secured.call(secured.bob.key, "POST", "/create", **options), 404)
    problem(await secured.call("", "POST", "/create", **options), 401)
    listed = (await secured.call(secured.bob.key, "GET", "/bulksms")).json()["bulksms"]
    assert {one["workspace_id"] for one in listed} == {str(secured.bob.workspace)}


async def test_credit_is_added_by_operators_only(secured: SecuredSystem) -> None:
    url = f"{secured.client.webapi}/workspaces/{secured.ann.workspace}/topup"
    assert "operator" in problem(await secured.call(secured.ann.key, "POST", url, json={"amount": "1"}), 403)
    problem(await secured.call(secured.bob.key, "POST", url, json={"amount": "1"}), 404)
    assert (await secured.call(secured.operator, "POST", url, json={"amount": "1"})).status_code == 200


async def test_a_rotated_or_revoked_key_is_refused(secured: SecuredSystem) -> None:
    first = await secured.new_key("create", str(secured.ann.workspace))
    assert await secured.status(first, "/bulksms") == 200
    second = await secured.new_key("rotate", first.split("_")[1])
    assert await secured.status(second, "/bulksms") == 200
    await until(lambda: _is(secured, first, 401))
    assert await secured.status(second, "/bulksms") == 200
    await secured.command("key", "revoke", second.split("_")[1])
    await until(lambda: _is(secured, second, 401))
    lines = (await secured.command("key", "list")).splitlines()
    listed = next(line for line in lines if line.startswith(str(UUID(second.split("_")[1]))))
    assert "(ann)" in listed
    assert "rotated" in listed
    assert "revoked" in listed
    assert second.split("_")[2] not in listed


async def _is(secured: SecuredSystem, key: str, status: int) -> bool:
    return await secured.status(key, "/bulksms") == status


async def test_ds_holds_no_key(secured: SecuredSystem) -> None:
    connection = await asyncpg.connect(secured.system.settings.ds_dsn)
    rows = str(await connection.fetch("SELECT * FROM api_key"))
    await connection.close()
    assert secured.ann.key.split("_", 2)[2] not in rows


async def test_commands_say_what_is_wrong(secured: SecuredSystem) -> None:
    nowhere = {"DS_DSN": "postgresql://postgres@127.0.0.1:9/ds"}
    here = {"DS_DSN": secured.system.settings.ds_dsn}
    for environ, words, said in (
        (here, ["key", "create", str(uuid4())], "there is no workspace"),
        (here, ["key", "create"], "--operator"),
        (here, ["key", "revoke", str(uuid4())], "there is no key"),
        (here, ["workspace", "create", "x", "--credit", "0.05"], "--credit"),
        (nowhere, ["key", "list"], "ds does not answer at 127.0.0.1:9"),
    ):
        done = await asyncio.to_thread(CliRunner().invoke, cli, words, env=environ)
        assert done.exit_code != 0
        assert said in done.output


async def test_the_demo_creates_a_key_and_revokes_it(
    secured: SecuredSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, work = secured.system.settings, partial(demo, contacts=ROOT / "5contacts.csv")
    assert await with_key(settings, lambda key: with_client(replace(settings, api_key=key), Screen(), work))
    assert "the books balance" in capsys.readouterr().out
    assert "revoked" in (await secured.command("key", "list")).splitlines()[-1]
    with pytest.raises(RefusedError, match="API key required") as refused:
        await with_client(settings, Screen(), work)
    assert "API_KEY" in refused.value.remedy


# WebSocket


def watch(secured: SecuredSystem, key: str = "") -> connect:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return connect(f"{secured.client.webapi.replace('http', 'ws')}/ws", additional_headers=headers)


async def told(socket: ClientConnection) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 60))
    return result


async def test_a_websocket_client_authenticates_by_header_or_message(secured: SecuredSystem) -> None:
    ask = {"workspace_id": str(secured.ann.workspace)}
    async with watch(secured, secured.ann.key) as socket:
        await socket.send(json.dumps(ask))
        assert (await told(socket))["workspace_id"] == str(secured.ann.workspace)
    for messages in ([{"key": secured.ann.key}, ask], [{"key": secured.ann.key, **ask}]):
        async with watch(secured) as socket:
            for message in messages:
                await socket.send(json.dumps(message))
            assert (await told(socket))["workspace_id"] == str(secured.ann.workspace)


async def test_a_websocket_client_without_access_gets_no_events(secured: SecuredSystem) -> None:
    ask = {"workspace_id": str(secured.ann.workspace)}
    with pytest.raises(InvalidStatus) as refused:
        async with watch(secured, "bsk_wrong"):
            pass
    assert refused.value.response.status_code == 401
    for message in (ask, {"key": "bsk_wrong", **ask}):
        async with watch(secured) as socket:
            await socket.send(json.dumps(message))
            assert "key" in (await told(socket))["error"]
            with pytest.raises(ConnectionClosed) as closed:
                await told(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
    async with watch(secured, secured.bob.key) as socket:
        await socket.send(json.dumps(ask))
        assert (await told(socket))["error"] == f"there is no workspace {secured.ann.workspace}"


async def test_a_websocket_is_closed_after_its_key_is_revoked(secured: SecuredSystem) -> None:
    key = await secured.new_key("create", str(secured.ann.workspace))
    async with watch(secured, key) as socket:
        await socket.send(json.dumps({"workspace_id": str(secured.ann.workspace)}))
        await told(socket)
        await secured.command("key", "revoke", key.split("_")[1])
        assert "revoked" in (await told(socket))["error"]
        with pytest.raises(ConnectionClosed):
            await told(socket)


# The carrier, rpc, and what a request leaves behind.


async def test_a_campaign_runs_over_signed_callbacks_and_mutual_tls_under_one_request_id(
    secured: SecuredSystem,
) -> None:
    given = {"X-Request-Id": "follow-me_1"}
    answer = await secured.call(
        secured.bob.key, "POST", "/run", json={"bulksms_id": secured.bob.bulksms_id}, headers=given
    )
    assert (answer.status_code, answer.headers["x-request-id"]) == (202, "follow-me_1")
    await until(lambda: _completed(secured, secured.bob))
    for name, line in (
        ("salesapi", "campaign started"),
        ("rpc", "credit reserved"),
        ("sales_worker", "batches submitted"),
    ):
        logged = [json.loads(one) for one in secured.log(name).splitlines() if line in one]
        assert "follow-me_1" in {one.get("request_id") for one in logged}, name


async def _completed(secured: SecuredSystem, owner: Owner) -> bool:
    campaign = (await secured.call(secured.operator, "GET", f"/bulksms/{owner.bulksms_id}")).json()
    return bool(campaign["status"] == "completed")


async def test_an_invalid_request_id_is_replaced(secured: SecuredSystem) -> None:
    answer = await secured.call("", "GET", "/health", headers={"X-Request-Id": 'a" id'})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


async def test_a_callback_without_the_generated_secret_is_refused(secured: SecuredSystem) -> None:
    body = json.dumps({"message_id": "x", "status": "sent", "timestamp": "2026-01-01T00:00:00Z"}).encode()
    url = f"{secured.client.salesapi}/callback"
    problem(await secured.client.http.post(url, content=body), 401)
    good = signed(body, secured.system.settings.callback_secrets)
    assert (await secured.client.http.post(url, content=body, headers=good)).status_code == 200


async def test_rpc_refuses_calls_without_the_token_or_a_valid_certificate(secured: SecuredSystem) -> None:
    whole = security.of_client(secured.system.settings)
    other = trustme.CA()
    stranger = other.issue_cert("services")

    async def ask(shown: ClientSecurity, timeout: float = 30) -> str:
        client = RpcClient(secured.system.settings.rpc_address, timeout, shown)
        try:
            return (await client.get_workspace_credit(secured.ann.workspace)).name
        except (RpcUnavailableError, RpcTokenError) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            await client.close()

    answers = await asyncio.gather(
        ask(whole),
        ask(whole._replace(token="")),
        ask(whole._replace(token="a token of someone else")),
        ask(whole._replace(cert=None, key=None), 2),
        ask(whole._replace(cert=stranger.cert_chain_pems[0].bytes(), key=stranger.private_key_pem.bytes()), 2),
        ask(whole._replace(ca=other.cert_pem.bytes()), 2),
        ask(ClientSecurity(TOKEN), 2),
    )
    assert answers[0] == "ann"
    assert ["RpcTokenError: rpc refuses the token" in answer for answer in answers[1:3]] == [True] * 2
    assert ["does not answer" in answer for answer in answers[3:]] == [True] * 4


async def test_the_rate_limit_is_per_key(secured: SecuredSystem) -> None:
    key = await secured.new_key("create", str(secured.ann.workspace))
    answers = await asyncio.gather(*(secured.call(key, "GET", "/bulksms?limit=1") for _ in range(200)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    assert len(answers) - len(refused) >= 40
    assert "requests per second" in problem(refused[0], 429)
    assert int(refused[0].headers["retry-after"]) >= 1
    assert await secured.status(secured.bob.key, "/bulksms") == 200
    await until(lambda: _is(secured, key, 200))


async def test_without_redis_only_top_ups_are_refused(secured: SecuredSystem) -> None:
    assert secured.system.valkey is not None
    url = f"{secured.client.webapi}/workspaces/{secured.ann.workspace}"
    secured.system.valkey.kill()
    try:
        assert await secured.status(secured.ann.key, url) == 200
        problem(await secured.call(secured.operator, "POST", f"{url}/topup", json={"amount": "1"}), 503)
    finally:
        secured.system.valkey.start()


async def test_a_service_with_a_wrong_token_is_not_ready(secured: SecuredSystem) -> None:
    secured.system.kill("salesapi")
    secured.system.spawn("salesapi", RPC_TOKEN="not the token of rpc")

    async def says_so() -> bool:
        with suppress(httpx2.TransportError):
            return "rpc refuses the token" in (await secured.client.http.get(f"{secured.client.salesapi}/ready")).text
        return False

    try:
        await until(says_so)
        assert "RPC_TOKEN" in secured.log("salesapi")
    finally:
        secured.system.kill("salesapi")
        secured.system.restart("salesapi")


async def test_while_rpc_is_unavailable_only_cached_keys_are_accepted(secured: SecuredSystem) -> None:
    assert await secured.status(secured.ann.key, "/bulksms") == 200
    secured.system.kill("rpc")
    try:
        begun = time.monotonic()
        answers = await asyncio.gather(
            secured.call(secured.ann.key, "GET", "/bulksms"),
            secured.call("bsk_" + uuid4().hex + "_x", "GET", "/bulksms"),
        )
        assert time.monotonic() - begun < 20
        assert answers[0].status_code == 200
        problem(answers[1], 503)
    finally:
        secured.system.restart("rpc")


async def test_an_internal_error_reveals_no_details(secured: SecuredSystem) -> None:
    connection = await asyncpg.connect(secured.system.settings.salesdb_dsn)
    await connection.execute("ALTER TABLE bulksms RENAME TO elsewhere")
    try:
        answer = await secured.call(secured.operator, "GET", "/bulksms")
    finally:
        await connection.execute("ALTER TABLE elsewhere RENAME TO bulksms")
        await connection.close()
    assert "a fault of the service" in problem(answer, 500)
    assert not re.search("relation|SELECT|Traceback|asyncpg|elsewhere", answer.text)


async def test_logs_contain_no_phone_number_and_no_secret(secured: SecuredSystem) -> None:
    """After all the tests above."""
    logs = "".join(path.read_text() for path in secured.system.log_dir.glob("*.log"))
    keys = (secured.operator, secured.ann.key, secured.bob.key)
    secrets = [TOKEN, secured.system.settings.callback_secrets, *(key.split("_", 2)[2] for key in keys)]
    assert not [secret for secret in secrets if secret in logs]
    assert not re.search(r"\+35840\d{7}", logs)
    assert "no key is needed" in secured.log("salesapi"), "said while it was so"
    assert "no key is needed" in secured.log("webapi")
