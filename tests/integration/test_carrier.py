"""The simulated carrier on its own, as in load tests of other SMS systems, and its adapter."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from common.database import Database
from common.jobs import JobQueue
from common.settings import ROOT, host_and_port
from local.launcher import System
from local.ports import free_port
from local.servers import is_answering
from salesapi.carrier.http import HttpCarrier
from salesapi.carrier.port import (
    CarrierBusyError,
    CarrierRefusedError,
    CarrierUnavailableError,
    CarrierUnknownError,
    Message,
)
from salesapi.salesapi.charges import charge_batcher
from salesapi.salesapi.sending import RefusalLimit, Sender
from salesapi.simulator.outcome import NetworkModel, decide_outcome
from tests.support.client import Client, csv_of, problem
from tests.support.invariants import check_invariants
from tests.support.polling import until


class Receiver:
    """A real HTTP server for callbacks; answers 503 to the first `refuse` of them."""

    def __init__(self, url: str) -> None:
        self.bodies: list[Any] = []
        self.refuse = 0
        self.url = url
        self._path = urlsplit(url).path.encode()

    @property
    def reports(self) -> list[dict[str, Any]]:
        return [report for body in self.bodies for report in (body if isinstance(body, list) else [body])]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
                )
                body = msgspec.json.decode(await reader.readexactly(length))
                if head.split()[1] != self._path:  # a late report of another test
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                elif self.refuse > 0:
                    self.refuse -= 1
                    writer.write(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")
                else:
                    self.bodies.append(body)
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


_used_urls = count()


@pytest.fixture
async def receiver(client: Client) -> AsyncIterator[Receiver]:
    """A receiver at a URL to which the simulator may report, and which no other test uses."""
    receiver = Receiver(client.settings.carrier_callback_urls.split()[next(_used_urls)])
    server = await asyncio.start_server(receiver.serve, *host_and_port(receiver.url))
    yield receiver
    server.close()


async def submit(client: Client, receiver: Receiver, key: str, ids: list[str], to: str = "+358401234567") -> Any:
    body = {
        "callback_url": receiver.url,
        "messages": [{"message_id": message_id, "to": to, "text": "Hi"} for message_id in ids],
    }
    return await client.http.post(f"{client.carrier}/messages", json=body, headers={"Idempotency-Key": key})


def ids_of(count: int) -> list[str]:
    return [uuid4().hex for _ in range(count)]


async def finished(receiver: Receiver, ids: list[str]) -> bool:
    final = {report["message_id"] for report in receiver.reports if report["status"] != "sent"}
    return final >= set(ids)


async def test_a_repeated_key_gets_the_same_response_and_is_sent_once(client: Client, receiver: Receiver) -> None:
    ids, key, phone = ids_of(20), uuid4().hex, "+358409999001"
    first = await submit(client, receiver, key, ids, phone)
    again = await submit(client, receiver, key, ids, phone)
    assert (first.status_code, again.status_code, first.json()) == (202, 202, again.json())
    assert "other messages" in problem(await submit(client, receiver, key, ids_of(1)), 409)
    await until(lambda: finished(receiver, ids))
    received = (await client.http.get(f"{client.carrier}/stats/phones/{phone}")).json()["messages"]
    failed = {report["message_id"] for report in receiver.reports if report["status"] == "failed"}
    assert received == 20 - len(failed)


async def test_every_message_is_reported_after_the_receiver_was_busy(client: Client, receiver: Receiver) -> None:
    receiver.refuse = 30
    ids = ids_of(100)
    await submit(client, receiver, uuid4().hex, ids)
    await until(lambda: finished(receiver, ids))
    statuses = Counter(report["status"] for report in receiver.reports)
    assert statuses["delivered"] > statuses["undelivered"] > 0
    assert all(report["error_code"] for report in receiver.reports if report["status"] in ("failed", "undelivered"))


async def test_reports_are_posted_in_arrays_if_configured(client: Client, receiver: Receiver) -> None:
    await client.behave(array=50)
    ids = ids_of(200)
    await submit(client, receiver, uuid4().hex, ids)
    await until(lambda: finished(receiver, ids))
    bodies = receiver.bodies.copy()  # a second report of some may still come
    assert all(isinstance(body, list) for body in bodies)
    assert len(bodies) < sum(map(len, bodies))


async def test_batches_over_the_rate_limit_are_429(client: Client, receiver: Receiver) -> None:
    await client.behave(mps=1)  # the second batch overdraws it for nine seconds
    responses = [await submit(client, receiver, uuid4().hex, ids_of(10)) for _ in range(4)]
    assert responses[0].status_code == 202
    problem(responses[-1], 429)
    assert float(responses[-1].headers["retry-after"]) > 0


async def test_an_invalid_batch_is_refused(client: Client, receiver: Receiver) -> None:
    url = f"{client.carrier}/messages"
    assert "callback_url" in problem(await client.http.post(url, json={}), 400)
    assert "messages" in problem(await submit(client, receiver, "k", []), 400)
    response = await submit(client, receiver, uuid4().hex, ["x"], to="0401234567")
    assert response.json() == {"accepted": 0, "rejected": [{"message_id": "x", "reason": "not a number in E.164"}]}


async def test_accepted_batches_survive_kill_9(system: System, client: Client, receiver: Receiver) -> None:
    ids = ids_of(300)
    await submit(client, receiver, uuid4().hex, ids)
    await until(lambda: _some(receiver))
    system.kill("carrier")
    system.restart("carrier")
    await until(lambda: finished(receiver, ids))
    assert (await client.carrier_stats())["most_per_message"] <= 1


async def _some(receiver: Receiver) -> bool:
    return len(receiver.reports) > 20


def test_outcomes_depend_on_the_seed_and_follow_the_shares() -> None:
    network = NetworkModel(failed=0.1, undelivered=0.2, duplicates=0.3, swapped=0.4, latency=1.0, seed=7)
    outcomes = [decide_outcome(network, f"m{i}") for i in range(5000)]
    assert outcomes == [decide_outcome(network, f"m{i}") for i in range(5000)]
    assert outcomes[:50] != [decide_outcome(msgspec.structs.replace(network, seed=8), f"m{i}") for i in range(50)]
    left = [outcome.reports for outcome in outcomes if outcome.reaches_phone]
    assert 0.08 < 1 - len(left) / 5000 < 0.12
    assert 0.35 < sum(reports[0].status != "sent" for reports in left) / len(left) < 0.45
    assert 0.15 < sum(any(r.status == "undelivered" for r in reports) for reports in left) / len(left) < 0.25


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ("busy", CarrierBusyError),
        ("error", CarrierUnknownError),
        ("refuse", CarrierRefusedError),
        ("drop", CarrierUnknownError),
        ("lose_answer", CarrierUnknownError),
        ("half_answer", CarrierUnknownError),
        ("hang", CarrierUnknownError),
    ],
)
async def test_the_adapter_raises_the_error_for_each_kind_of_failure(
    client: Client, receiver: Receiver, trouble: str, error: type[Exception]
) -> None:
    carrier = HttpCarrier(client.carrier, receiver.url, 1.0 if trouble == "hang" else 30.0)
    await client.behave(trouble=trouble)
    with pytest.raises(error):
        await carrier.submit(uuid4().hex, [Message(uuid4().hex, "+358401234567", "Hi")])
    await carrier.close()


def test_the_simulator_stops_on_sigterm(tmp_path: Path) -> None:
    port = free_port()
    environ = {**os.environ, "CARRIER_URL": f"http://127.0.0.1:{port}", "DATA_DIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "console.py", "carrier", "serve"], cwd=ROOT, env=environ)
    deadline = time.monotonic() + 120
    while not is_answering("127.0.0.1", port):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 0


async def test_a_carrier_that_cannot_be_reached_is_unavailable() -> None:
    carrier = HttpCarrier("http://127.0.0.1:9", "http://127.0.0.1:9", 30.0)
    with pytest.raises(CarrierUnavailableError):
        await carrier.submit("k", [])
    await carrier.close()


async def test_a_batch_of_unknown_state_is_not_repeated_to_a_carrier_without_idempotency(
    system: System, client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """The state of the batch is `unknown` until its reports arrive."""
    database = Database("salesdb", system.settings.salesdb_dsn)
    await database.open()
    carrier = HttpCarrier(client.carrier, system.settings.callback_url, 30.0, idempotent=False)
    charges = charge_batcher(JobQueue.connect(system.settings.redis_url))
    sender = Sender(
        database, carrier, charges, concurrency=1, lease=60, submit_within=30, refusal_limit=RefusalLimit(0.5, 100)
    )
    system.kill("sales_worker")
    bulksms_id = await client.created(workspace, csv_of(30))
    await client.run(bulksms_id)
    await client.behave(trouble="lose_answer", paused=True)
    await sender.send(UUID(bulksms_id))
    assert await _state(salesdb, bulksms_id) == "unknown"
    await sender.send(UUID(bulksms_id))
    assert await _state(salesdb, bulksms_id) == "unknown"
    await client.behave(paused=False)
    system.restart("sales_worker")
    await until(lambda: client.completed(bulksms_id))
    await check_invariants(client, ds, salesdb, workspace)
    await asyncio.gather(carrier.close(), database.close())


async def _state(salesdb: asyncpg.Pool, bulksms_id: str) -> Any:
    return await salesdb.fetchval("SELECT state::text FROM bulksms_batch WHERE bulksms_id = $1", UUID(bulksms_id))
