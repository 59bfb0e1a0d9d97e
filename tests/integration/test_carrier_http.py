"""What a hostile carrier, and a hostile page in front of the simulator, get: nothing."""

import gzip

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestServer

from salesapi.carrier.http import HttpCarrier
from salesapi.carrier.port import CarrierError, CarrierRefusedError, CarrierUnknownError, Message
from tests.support.client import Client, problem

_MESSAGE = Message("m", "+358401234567", "a secret text")


async def _submitted(server: BaseTestServer) -> CarrierError | None:
    carrier = HttpCarrier(str(server.make_url("")).rstrip("/"), "http://127.0.0.1:9/callback", 20.0)
    try:
        await carrier.submit("k", [_MESSAGE])
    except CarrierError as error:
        return error
    finally:
        await carrier.close()
    return None


@pytest.mark.parametrize(
    ("status", "error"),
    [(301, CarrierUnknownError), (302, CarrierUnknownError), (303, CarrierUnknownError), (307, CarrierRefusedError),
     (308, CarrierRefusedError)],
)  # fmt: skip
async def test_a_redirect_is_not_followed(status: int, error: type[CarrierError]) -> None:
    bodies: list[str] = []

    async def internal(request: web.Request) -> web.Response:
        bodies.append(await request.text())
        return web.json_response({"accepted": 1, "rejected": []}, status=202)

    inside = web.Application()
    inside.router.add_route("*", "/{path:.*}", internal)
    async with TestServer(inside) as target:

        async def redirect(request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": str(target.make_url("/internal"))})

        outside = web.Application()
        outside.router.add_post("/messages", redirect)
        async with TestServer(outside) as server:
            failure = await _submitted(server)
    assert type(failure) is error
    assert "redirects are not followed" in str(failure)
    assert bodies == []


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
async def test_a_huge_response_is_neither_inflated_nor_read(encoding: str) -> None:
    bomb = gzip.compress(bytes(64 * 1024 * 1024)) if encoding else bytes(64 * 1024 * 1024)
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers["Accept-Encoding"])
        headers = {"Content-Encoding": encoding} if encoding else {}
        return web.Response(status=202, body=bomb, headers=headers)

    app = web.Application()
    app.router.add_post("/messages", answer)
    async with TestServer(app) as server:
        failure = await _submitted(server)
    assert isinstance(failure, CarrierUnknownError)
    assert ("compressed" if encoding else "more than") in str(failure)
    assert asked == ["identity"]


async def test_the_simulator_signs_nothing_for_pages_and_for_other_addresses(client: Client) -> None:
    url = f"{client.carrier}/messages"
    batch = {
        "callback_url": client.settings.callback_url,
        "messages": [{"message_id": "x", "to": "+358401234567", "text": "Hi"}],
    }
    for headers in ({"Origin": "https://elsewhere.example"}, {"Origin": "http://localhost:3000"}, {"Origin": "null"},
                    {"Host": "elsewhere.example"}, {"Host": "]["}):  # fmt: skip
        problem(await client.http.post(url, json=batch, headers=headers), 403)
        problem(await client.http.get(f"{client.carrier}/stats", headers=headers), 403)
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        problem(await client.http.post(url, content=b"{}", headers={"Content-Type": kind}), 415)
        behaviour = f"{client.carrier}/behaviour"
        problem(await client.http.post(behaviour, content=b"{}", headers={"Content-Type": kind}), 415)
    before = await client.carrier_stats()
    for other in ("http://127.0.0.1:9/internal", client.settings.callback_url + "/", "http://169.254.169.254/"):
        answer = await client.http.post(url, json={**batch, "callback_url": other})
        assert "CARRIER_CALLBACK_URLS" in problem(answer, 403)
    assert (await client.carrier_stats())["messages"] == before["messages"]
