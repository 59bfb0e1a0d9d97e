"""The topology (processes, channels, queues, arrows) matches the running system."""

import asyncio
import inspect
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect

from common import topology
from common.settings import Settings
from common.topology import ARROWS, PROCESSES, QUEUES, SERVERS
from local.launcher import System, parts
from salesapi.salesapi.worker_swarm.sales_worker import WorkerSettings as SalesWorker
from tests.support.client import Client, csv_of
from tests.support.polling import until
from webapi.webapi.worker_swarm.general_worker import WorkerSettings as GeneralWorker

NODES = {topology.BROWSERS, *(process.name for process in PROCESSES), *(server.name for server in SERVERS)}


async def flows(client: Client) -> dict[str, Any]:
    """The response of `GET /system/flows`."""
    answer = await client.http.get(f"{client.webapi}/system/flows")
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


def test_names_are_unique_and_arrows_join_nodes_of_the_list() -> None:
    assert len(NODES) == len(PROCESSES) + len(SERVERS) + 1
    assert len({(arrow.source, arrow.target) for arrow in ARROWS}) == len(ARROWS)
    for arrow in ARROWS:
        assert {arrow.source, arrow.target} <= NODES
        assert arrow.counted_by in (arrow.source, arrow.target)
        assert arrow.traffic
        assert all(traffic.counters for traffic in arrow.traffic)


def test_what_a_process_needs_is_in_the_list() -> None:
    for process in PROCESSES:
        assert set(process.needs) <= NODES - {process.name}


def test_every_address_is_a_setting() -> None:
    settings = {*Settings.__struct_fields__}
    assert {server.dsn for server in SERVERS} <= settings
    for process in PROCESSES:
        assert {*process.listens_on, *process.metrics_on} <= settings
        assert process.metrics_url(Settings()).startswith("http://127.0.0.1:8")


def test_a_process_whose_metrics_are_off_has_no_url_for_them() -> None:
    (worker,) = (process for process in PROCESSES if process.name == topology.SALES_WORKER)
    assert worker.metrics_url(Settings(sales_metrics_port=0)) == ""
    assert worker.address(Settings()) == ""


def test_the_launcher_starts_every_process_with_its_command() -> None:
    started = {part.name: part.command for part in parts(Settings())}
    assert started.keys() == {process.name for process in PROCESSES}
    for process in PROCESSES:
        assert " ".join(started[process.name]).endswith(" ".join(process.command))


@pytest.mark.parametrize(
    ("worker", "queue", "jobs"),
    [
        (GeneralWorker, topology.GENERAL_QUEUE, {topology.DEDUCT_CREDIT, topology.TOPUP_CREDIT}),
        (
            SalesWorker,
            topology.SALES_QUEUE,
            {topology.SEND_CAMPAIGN, topology.SETTLE_OUTBOX, topology.GENERATE_SYSTEM_STAT},
        ),
    ],
)
def test_a_worker_takes_the_jobs_of_its_queue(worker: Any, queue: str, jobs: set[str]) -> None:
    assert queue in QUEUES
    assert worker.queue_name == queue
    assert {getattr(one, "name", None) or one.__qualname__ for one in worker.functions} == jobs
    assert all(inspect.iscoroutinefunction(getattr(one, "coroutine", one)) for one in worker.functions)


async def test_the_topology_is_served_without_a_key_and_names_what_the_picture_shows(client: Client) -> None:
    served = (await client.http.get(f"{client.webapi}/system/topology")).json()
    assert {node["name"] for node in served["nodes"]} == NODES
    assert [(arrow["source"], arrow["target"]) for arrow in served["arrows"]] == [
        (arrow.source, arrow.target) for arrow in ARROWS
    ]
    assert {"label": "gRPC calls", "counters": ["grpc"]} in [
        traffic for arrow in served["arrows"] for traffic in arrow["traffic"]
    ]


async def test_every_process_has_a_heartbeat_and_every_server_answers(client: Client) -> None:
    async def all_answer() -> bool:
        now = await flows(client)
        assert now["services"].keys() == {process.name for process in PROCESSES}
        assert now["servers"].keys() == {server.name for server in SERVERS}
        alive = all(one["processes"] == 1 and not one["lacking"] for one in now["services"].values())
        return alive and set(now["servers"].values()) == {"ok"}

    await until(all_answer)


async def test_the_channels_in_redis_are_those_of_the_list(client: Client, workspace: UUID) -> None:
    url = f"{client.webapi.replace('http', 'ws')}/ws"
    async with connect(url) as socket, Redis.from_url(client.settings.redis_url) as redis:
        await socket.send(json.dumps({"workspace_id": str(workspace), "campaigns": True}))
        channels = {channel.encode() for channel in topology.CHANNELS}

        async def the_same() -> bool:
            return set(await redis.pubsub_channels()) == channels

        await until(the_same)


async def test_every_counter_that_an_arrow_names_is_counted(system: System, client: Client, workspace: UUID) -> None:
    """A scheduled, watched campaign whose charges are resent since the general worker is stopped for a while."""
    bulksms_id = await client.created(workspace, csv_of(60))
    async with connect(f"{client.webapi.replace('http', 'ws')}/ws") as socket:
        await socket.send(json.dumps({"workspace_id": str(workspace), "campaigns": True}))
        moment = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
        body = {"bulksms_id": bulksms_id, "scheduled_for": moment}
        assert (await client.http.post(f"{client.salesapi}/run", json=body)).status_code == 202
        assert (await client.run(await client.created(workspace, csv_of(10, first=100)))).status_code == 202
        system.kill("general_worker")
        await until(relayed(client))
        await asyncio.to_thread(system.restart, "general_worker")
        missing: list[tuple[str, str]] = []

        async def all_counted() -> bool:
            services = (await flows(client))["services"]
            named = {
                (arrow.counted_by, counter)
                for arrow in ARROWS
                for traffic in arrow.traffic
                for counter in traffic.counters
            }
            missing[:] = [(name, counter) for name, counter in named if counter not in services[name]["flows"]]
            return not missing

        try:
            await until(all_counted)
        except AssertionError:
            pytest.fail(f"not counted: {missing}")


def relayed(client: Client) -> Callable[[], Any]:
    """Whether the sales worker has sent unsettled charges again."""

    async def asked() -> bool:
        return topology.job_sent(topology.DEDUCT_CREDIT) in (await flows(client))["services"]["sales_worker"]["flows"]

    return asked
