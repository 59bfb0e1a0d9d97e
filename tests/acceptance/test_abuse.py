"""What one client can take from the others: guesses of keys, floods of messages, idle connections, lines of the log."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bulksms.message_id import encode
from common.settings import host_and_port
from local.launcher import System
from rpc.client import RpcClient, RpcTokenError
from rpc.security import ClientSecurity
from tests.support.client import Client, signed
from tests.support.polling import until
from tests.support.secured_system import SecuredSystem
from tests.support.system import start

TOKEN = "a token of the tests of abuse"


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    environ = {
        "RPC_TOKEN": TOKEN,
        "RPC_IDLE_TIMEOUT": "1",
        "RATE_LIMIT": "5",
        "RATE_BURST": "20",
        "WEBSOCKETS_PER_KEY": "5",
        "WRONG_KEYS_PER_MINUTE": "30",
    }
    with start(tmp_path_factory.mktemp("abuse"), **environ) as running:
        yield running


@pytest.fixture(scope="module")
async def secured(protected: System) -> AsyncIterator[SecuredSystem]:
    async with httpx2.AsyncClient(timeout=60) as http:
        made = SecuredSystem(protected, Client(http, protected.settings))
        made.operator = await made.new_key("create", "--operator")
        made.ann = await made.owner("ann")
        yield made


def url_of(secured: SecuredSystem) -> str:
    return f"{secured.client.webapi.replace('http', 'ws')}/ws"


async def new_key(secured: SecuredSystem) -> dict[str, str]:
    return {"Authorization": f"Bearer {await secured.new_key('create', str(secured.ann.workspace))}"}


async def test_watch_messages_count_as_requests(secured: SecuredSystem) -> None:
    headers, ask = await new_key(secured), json.dumps({"workspace_id": str(secured.ann.workspace)})
    codes = []
    for _ in range(3):
        try:
            async with connect(url_of(secured), additional_headers=headers) as socket:
                for message in [ask, "{}"] * 7:
                    await socket.send(message)
                while True:
                    await asyncio.wait_for(socket.recv(), 2)
        except ConnectionClosed as closed:
            codes.append((closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (0, "lost"))
        except InvalidStatus as refused:
            codes.append((refused.response.status_code, "Too many requests"))
        except TimeoutError:
            pass  # this one was within the limit
    assert codes
    assert set(codes) <= {(1013, "Too many requests"), (429, "Too many requests")}


async def test_the_sockets_of_a_key_are_bounded(secured: SecuredSystem) -> None:
    headers = await new_key(secured)
    sockets = [await connect(url_of(secured), additional_headers=headers) for _ in range(5)]
    with pytest.raises(InvalidStatus) as refused:
        await connect(url_of(secured), additional_headers=headers)
    assert refused.value.response.status_code == 429
    assert b"5 WebSockets of this key" in bytes(refused.value.response.body or b"")
    await sockets.pop().close()

    async def opens() -> bool:
        try:
            sockets.append(await connect(url_of(secured), additional_headers=headers))
        except InvalidStatus:
            return False
        return True

    await until(opens)
    await asyncio.gather(*(socket.close() for socket in sockets))


async def test_wrong_keys_are_braked_counted_and_logged_once(secured: SecuredSystem) -> None:
    url = f"{secured.client.webapi}/workspaces"
    answers = await asyncio.gather(*(secured.call(f"bsk_{n:032x}_x", "GET", url) for n in range(300)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 429}
    assert statuses.count(401) < 60
    braked = next(answer for answer in answers if answer.status_code == 429)
    assert int(braked.headers["retry-after"]) >= 1
    assert await secured.status(secured.operator, url) == 200
    text = (await secured.client.http.get(f"{secured.client.webapi}/metrics")).text
    assert "bulksms_wrong_credentials_total 30" in text
    lines = [json.loads(line) for line in secured.log("webapi").splitlines() if "wrong API key" in line]
    assert 1 <= len(lines) <= 5
    assert lines[0]["address"] == "127.0.0.1"


async def test_wrong_tokens_of_rpc_are_braked(secured: SecuredSystem) -> None:
    wrong = RpcClient(secured.system.settings.rpc_address, 30, ClientSecurity("not the token of rpc"))
    said = ""
    for _ in range(40):
        with pytest.raises(RpcTokenError) as refused:
            await wrong.get_workspace_credit(secured.ann.workspace)
        said = str(refused.value)
    await wrong.close()
    assert "too many calls" in said
    right = RpcClient(secured.system.settings.rpc_address, 30, ClientSecurity(TOKEN))
    assert (await right.get_workspace_credit(secured.ann.workspace)).name == "ann"
    await right.close()


async def test_rpc_closes_connections_that_make_no_call(secured: SecuredSystem) -> None:
    """Whether they speak HTTP/2 or nothing."""
    host, port = host_and_port(secured.system.settings.rpc_address)
    for greeting in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)), b""):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(greeting)
        while await asyncio.wait_for(reader.read(1024), 60):
            pass
        writer.close()


async def test_an_outage_and_rubbish_write_a_bounded_number_of_lines(secured: SecuredSystem) -> None:
    """Callbacks that salesdb cannot take, and callbacks without a signature."""
    assert secured.system.salesdb is not None
    http, url = secured.client.http, f"{secured.client.salesapi}/callback"
    before = len(secured.log("salesapi").splitlines())
    message_id = encode(UUID(secured.ann.bulksms_id), 1)
    body = json.dumps({"message_id": message_id, "status": "sent", "timestamp": "2026-01-01T00:00:00Z"}).encode()
    good = signed(body, secured.system.settings.callback_secrets)
    statuses: set[int] = set()
    secured.system.salesdb.kill()
    try:
        for _ in range(10):
            posts = [http.post(url, content=body, headers=headers) for headers in (good, {}) for _ in range(50)]
            statuses |= {answer.status_code for answer in await asyncio.gather(*posts)}
    finally:
        secured.system.salesdb.start()
    assert statuses == {401, 503}
    assert len(secured.log("salesapi").splitlines()) - before < 150
