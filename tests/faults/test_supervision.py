"""I10: no background task dies unseen. Faults are injected into every process; the system goes on, and counts them."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest
from arq.constants import job_key_prefix
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from common.runtime import FAILED
from common.settings import ROOT
from common.topology import CHANNELS, GENERAL_QUEUE, SALES_QUEUE
from local.launcher import System
from tests.support.client import Client, csv_of
from tests.support.invariants import check_invariants
from tests.support.polling import until

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Inject = Callable[..., None]

_INJECTION = {"PYTHONPATH": os.pathsep.join((str(ROOT / "tests" / "support" / "injection"), str(ROOT)))}

# The background tasks of each process: what the system does without anybody waiting for it.
_TASKS = {
    "webapi": {"pub/sub", "credit check", "campaign check", "system status", "heartbeat", "key warning"},
    "salesapi": {"report writer 1", "report writer 2", "charges", "campaign progress", "heartbeat", "key warning"},
    "rpc": {"health of credit", "health of campaigns", "audit", "metrics server", "heartbeat"},
    "carrier": {"due reports", "acknowledgements", "heartbeat"},
    "general_worker": {"settled entries", "metrics server", "heartbeat"},
    "sales_worker": {"charges", "metrics server", "heartbeat"},
}


async def counted(client: Client, process: str) -> dict[tuple[str, str], float]:
    """The failures that a process tells, by kind and name."""
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
    """Starts a process anew with faults in it; afterwards it runs without."""
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
async def test_every_background_task_that_fails_is_started_again_and_counted(
    system: System, client: Client, ds: Pool, salesdb: Pool, workspace: UUID, injected: Inject, process: str
) -> None:
    injected(process, INJECT_ONCE="1")

    async def each_has_failed() -> bool:
        with suppress(httpx.TransportError):  # the metrics server is one of them
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

    async def says_so() -> bool:
        with suppress(httpx.TransportError):
            answer = await client.http.get(f"{client.metrics_urls[process]}/ready")
            return f"the background task {task} has failed: RuntimeError: injected" in answer.text
        return False

    try:
        await until(says_so)
        await until(lambda: asyncio.to_thread(running.poll), timeout=80)
        assert running.returncode == FAILED
    finally:
        system.processes.pop(process, None)
        running.kill()
        system.restart(process)


async def test_observers_of_the_report_writer_that_fail_cost_no_report_and_no_charge(
    client: Client, ds: Pool, salesdb: Pool, workspace: UUID, injected: Inject
) -> None:
    injected("salesapi", INJECT_OBSERVERS="1")
    await campaign_completes(client, workspace)  # the outbox is relayed, the campaign's progress is asked for
    await check_invariants(client, ds, salesdb, workspace)
    seen = await counted(client, "salesapi")
    assert {name for kind, name in seen if kind == "observer"} >= {
        f"report writer: {one}" for one in ("on_entries", "on_changed", "on_flush")
    }


_RUBBISH = (b"", b"\xff\xfe", b"{", b"null", b"[" * 100_000, b'{"topic": 1, "data": {}}', b'{"topic": "x"}')


async def test_rubbish_on_every_channel_is_dropped_and_counted(
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
            await until(partial(_is_heard, redis, channel))
            for rubbish in (*_RUBBISH, *well_wrapped):
                await redis.publish(channel, rubbish)
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
        assert after.get(key, 0) - before.get(key, 0) == len(_RUBBISH) + len(well_wrapped), after


async def _is_heard(redis: "Redis", channel: str) -> bool:
    ((_, listeners),) = await redis.pubsub_numsub(channel)
    return bool(listeners)


async def test_rubbish_in_both_queues_is_dropped_and_counted(
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
        for queue in workers.values():  # and no queue at all
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


def test_a_server_that_dies_is_started_again(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    assert system.valkey is not None
    assert system.valkey.process is not None
    system.valkey.process.kill()
    system.valkey.process.wait()
    system.check()
    assert system.valkey.ended is None
    assert "Valkey had ended with code -9 and was started again" in capsys.readouterr().out
