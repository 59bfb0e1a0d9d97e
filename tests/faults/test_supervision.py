"""I10: failed background tasks are restarted, or end the process; faults in every process are survived and counted."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx2
import msgspec
import pytest
from arq.constants import job_key_prefix
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from common.runtime import FAILED
from common.settings import ROOT, host_and_port
from common.topology import CHANNELS, GENERAL_QUEUE, SALES_QUEUE
from local.launcher import System
from tests.support.client import Client, csv_of
from tests.support.invariants import check_invariants
from tests.support.polling import until

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Inject = Callable[..., None]

_INJECTION = {"PYTHONPATH": os.pathsep.join((str(ROOT / "tests" / "support" / "injection"), str(ROOT)))}

# The background tasks of each process.
_TASKS = {
    "webapi": {"pub/sub", "credit check", "campaign check", "system status", "heartbeat", "key warning"},
    "salesapi": {
        "report writer 1",
        "report writer 2",
        "upload process 1",
        "upload process 2",
        "charges",
        "campaign progress",
        "heartbeat",
        "key warning",
    },
    "rpc": {"health of credit", "health of campaigns", "audit", "metrics server", "heartbeat"},
    "carrier": {"due reports", "acknowledgements", "heartbeat"},
    "general_worker": {"settled entries", "metrics server", "heartbeat"},
    "sales_worker": {"charges", "metrics server", "heartbeat"},
}


async def counted(client: Client, process: str) -> dict[tuple[str, str], float]:
    """The failures in a process's /metrics, by kind and name."""
    answer = await client.http.get(f"{client.metrics_urls[process]}/metrics")
    return {
        (sample.labels["kind"], sample.labels["name"]): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "bulksms_failures_total"
    }


async def campaign_completes(client: Client, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(60))
    assert (await client.run(bulksms_id)).status_code == 202
    await until(lambda: client.completed(bulksms_id))


@pytest.fixture
def injected(system: System) -> Iterator[Callable[..., None]]:
    """Restarts a process with injected faults; it is restarted without them after the test."""
    touched: set[str] = set()

    def inject(process: str, **environ: str) -> None:
        touched.add(process)
        system.kill(process)
        system.restart(process, **environ, **_INJECTION)

    yield inject
    for process in touched:
        if process in system.processes:
            system.kill(process)
        system.restart(process)


@pytest.mark.parametrize("process", _TASKS)
async def test_a_failed_background_task_is_restarted_and_counted(
    system: System, client: Client, ds: Pool, salesdb: Pool, workspace: UUID, injected: Inject, process: str
) -> None:
    injected(process, INJECT_ONCE="1")

    async def each_has_failed() -> bool:
        with suppress(httpx2.TransportError):  # the metrics server is one of them
            return {name for kind, name in await counted(client, process) if kind == "task"} >= _TASKS[process]
        return False

    await until(each_has_failed)
    await campaign_completes(client, workspace)
    await check_invariants(client, ds, salesdb, workspace)
    assert system.is_ready(process)


@pytest.mark.parametrize(("process", "task"), [("salesapi", "charges"), ("rpc", "audit"), ("sales_worker", "charges")])
async def test_a_process_whose_task_cannot_be_kept_running_is_not_ready_and_ends_with_a_code(
    system: System, client: Client, injected: Inject, process: str, task: str
) -> None:
    system.kill(process)
    system.spawn(process, INJECT_TASK=task, **_INJECTION)
    running = system.processes[process]

    async def is_not_ready() -> bool:
        with suppress(httpx2.TransportError):
            answer = await client.http.get(f"{client.metrics_urls[process]}/ready")
            return f"the background task {task} has failed: RuntimeError: injected" in answer.text
        return False

    try:
        await until(is_not_ready)
        await until(lambda: asyncio.to_thread(running.poll), timeout=80)
        assert running.returncode == FAILED
    finally:
        system.processes.pop(process, None)
        running.kill()
        system.restart(process)


async def test_failing_observers_of_the_report_writer_lose_no_report_and_no_charge(
    client: Client, ds: Pool, salesdb: Pool, workspace: UUID, injected: Inject
) -> None:
    injected("salesapi", INJECT_OBSERVERS="1")
    await campaign_completes(client, workspace)  # the outbox is relayed, the campaign's progress is asked for
    await check_invariants(client, ds, salesdb, workspace)
    seen = await counted(client, "salesapi")
    assert {name for kind, name in seen if kind == "observer"} >= {
        f"report writer: {one}" for one in ("on_entries", "on_changed", "on_flush")
    }


_UNREADABLE = (b"", b"\xff\xfe", b"{", b"null", b"[" * 100_000, b'{"topic": 1, "data": {}}', b'{"topic": "x"}')


async def test_unreadable_messages_on_every_channel_are_dropped_and_counted(
    system: System, client: Client, ds: Pool, salesdb: Pool, workspace: UUID
) -> None:
    before = await counted(client, "webapi")
    async with (
        Redis.from_url(system.settings.redis_url) as redis,
        connect(f"{client.webapi}/ws".replace("http", "ws")) as socket,
    ):
        await socket.send(msgspec.json.encode({"workspace_id": str(workspace), "campaigns": True}).decode())
        await socket.recv()
        topic = msgspec.json.encode(str(workspace))
        well_wrapped = [b'{"topic": %b, "data": %b}' % (topic, data) for data in (b"1", b'{"version": "x"}', b"[]")]
        for channel in CHANNELS:
            await until(partial(_has_subscriber, redis, channel))
            for message in (*_UNREADABLE, *well_wrapped):
                await redis.publish(channel, message)
        await campaign_completes(client, workspace)
        expected = (await client.workspace(workspace))["version"]
        while True:
            message = msgspec.json.decode(await asyncio.wait_for(socket.recv(), 40))
            if message.get("version") == expected:
                break
    await check_invariants(client, ds, salesdb, workspace)
    after = await counted(client, "webapi")
    for channel in CHANNELS:
        key = ("channel", channel)
        assert after.get(key, 0) - before.get(key, 0) == len(_UNREADABLE) + len(well_wrapped), after


async def _has_subscriber(redis: "Redis", channel: str) -> bool:
    ((_, listeners),) = await redis.pubsub_numsub(channel)
    return bool(listeners)


async def test_unreadable_jobs_in_both_queues_are_dropped_and_counted(
    system: System, client: Client, ds: Pool, salesdb: Pool, workspace: UUID
) -> None:
    pack = msgspec.msgpack.encode
    whole: dict[str, Any] = {"t": None, "f": "topup_credit", "a": [], "k": {}, "et": 1}
    jobs: dict[bytes, bytes] = {
        b"empty": b"",
        b"no msgpack": b"\xc1",
        b"no job": pack([1]),
        b"no function": pack({**whole, "f": ["x"]}),
        b"unknown function": pack({**whole, "f": "x"}),
        b"arguments of the wrong type": pack({**whole, "a": "x"}),
        b"keywords of the wrong type": pack({**whole, "k": [1]}),
        b"a time of the wrong type": pack({**whole, "et": "x"}),
        b"arguments that do not fit": pack({**whole, "a": [1]}),
    }
    workers = {"general_worker": GENERAL_QUEUE, "sales_worker": SALES_QUEUE}
    async with Redis.from_url(system.settings.redis_url) as redis:
        for queue in workers.values():
            await redis.zadd(queue, {b"\xff\xfe": 1, b"of no job": 1, b"a list": 1, **dict.fromkeys(jobs, 1)})
            for job_id, data in jobs.items():
                await redis.set(job_key_prefix.encode() + job_id, data)
            await redis.delete(job_key_prefix + "a list")
            await redis.lpush(job_key_prefix + "a list", "x")
            await until(partial(_is_empty_of, redis, queue, [b"\xff\xfe", b"of no job", *jobs]))
        for queue in workers.values():  # a key of the wrong type
            await redis.delete(queue)
            await redis.set(queue, "x")
        await campaign_completes(client, workspace)
    await check_invariants(client, ds, salesdb, workspace)
    for worker in workers:
        kinds = {name for kind, name in await counted(client, worker) if kind == "queue"}
        assert kinds >= {"member that is no job id", "job that cannot be read", "not a queue"}
    system.check()


async def _is_empty_of(redis: Redis, queue: str, members: list[bytes]) -> bool:
    scores = [await redis.zscore(queue, member) for member in members]
    return not any(scores)


class ResettingProxy:
    """Carries connections to Redis; while `is_resetting`, those that are open and those that come are reset."""

    def __init__(self, port: int) -> None:
        self.is_resetting = False
        self.resets = 0
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if self.is_resetting:
                await reader.read(1)  # what a client sends first is cut off, as by a server that is ending
                self._reset(writer)
                return
            to_server, from_server = await asyncio.open_connection("127.0.0.1", self._port)
            self._writers |= {writer, from_server}
            await asyncio.gather(_carry(reader, from_server), _carry(to_server, writer))

    def start_resetting(self) -> None:
        self.is_resetting = True
        for writer in self._writers:
            self._reset(writer)
        self._writers.clear()

    def _reset(self, writer: asyncio.StreamWriter) -> None:
        self.resets += 1
        writer.transport.abort()


async def _carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
        await target.drain()


@pytest.mark.parametrize("worker", ["general_worker", "sales_worker"])
async def test_a_worker_outlives_a_redis_that_resets_every_connection(
    system: System, client: Client, workspace: UUID, worker: str
) -> None:
    proxy = ResettingProxy(host_and_port(system.settings.redis_url)[1])
    listening = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    system.kill(worker)
    try:
        system.spawn(worker, REDIS_URL=system.settings.redis_url.rpartition(":")[0] + f":{port}")
        await campaign_completes(client, workspace)
        for _ in range(3):
            proxy.resets = 0
            proxy.start_resetting()
            await until(lambda: _is_more(lambda: proxy.resets, 20))
            proxy.is_resetting = False
            await campaign_completes(client, workspace)
        system.check()
    finally:
        listening.close()
        system.kill(worker)
        system.restart(worker)


async def _is_more(count: Callable[[], int], least: int) -> bool:
    return count() > least


def test_a_server_that_ends_is_restarted(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert system.valkey is not None
    assert system.valkey.process is not None
    system.valkey.process.kill()
    system.valkey.process.wait()
    system.check()
    assert system.valkey.ended is None
    assert "Valkey ended with code -9 and was restarted" in capsys.readouterr().out
