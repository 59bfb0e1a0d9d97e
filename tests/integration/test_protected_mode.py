"""While no key was made: what is open is open to this machine alone, and what must not be logged is not."""

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from common.observability.logs import masked
from common.settings import ROOT
from local.launcher import System
from tests.support.client import Client, problem
from tests.support.commands import run


async def test_a_page_from_elsewhere_cannot_use_the_browser_of_this_machine(client: Client) -> None:
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Host": "elsewhere.example"},
        {"Origin": "null"},
        {"Host": "]["},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:1"},
    ):
        problem(await client.http.get(f"{client.salesapi}/bulksms", headers=headers), 403)
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"{client.webapi.replace('http', 'ws')}/ws", origin=Origin("https://elsewhere.example")):
            pass
    assert refused.value.response.status_code == 403
    same = {"Origin": f"http://localhost:{client.settings.webapi_port}"}
    assert (await client.http.get(f"{client.salesapi}/bulksms", headers=same)).status_code == 200


@pytest.mark.parametrize(
    ("service", "environ", "words"),
    [
        ("webapi", {"WEBAPI_HOST": "0.0.0.0"}, "key create --operator"),
        ("salesapi", {"SALESAPI_HOST": "0.0.0.0"}, "CALLBACK_SECRETS"),
        ("salesapi", {"SALESAPI_HOST": "0.0.0.0", "CALLBACK_SECRETS": "of sixteen letters"}, "key create --operator"),
        ("rpc", {"RPC_ADDRESS": "0.0.0.0:18993"}, "RPC_TOKEN"),
    ],
)
def test_what_asks_for_no_secret_refuses_to_be_reached_from_elsewhere(
    system: System, service: str, environ: dict[str, str], words: str
) -> None:
    addresses = {"DS_DSN": system.settings.ds_dsn, "RPC_ADDRESS": system.settings.rpc_address}
    done = run("python", "console.py", service, "serve", cwd=ROOT, **{**addresses, **environ})
    assert done.returncode == 1
    assert words in done.stderr.splitlines()[-1]


def test_numbers_and_keys_are_masked_wherever_they_stand() -> None:
    key = "bsk_" + 32 * "a"
    said = f'Error("+358401234567") {{"to": "+14155550123"}} {key}_Se-cret_1, at +02:00'
    assert masked(said) == f'Error("+3584***67") {{"to": "+1415***23"}} {key}_***, at +02:00'
