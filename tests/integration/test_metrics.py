"""What an operator sees: the metrics of every process, and which part one waits for."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from common.jobs import JobQueue
from common.settings import ROOT
from common.topology import PROCESSES
from local.ports import free_port
from tests.support.client import Client, csv_of
from tests.support.polling import until

Samples = dict[tuple[str, ...], float]


async def scrape(client: Client) -> Samples:
    """All samples, by process, name and the values of their labels, in the order of the labels' names."""
    found: Samples = {}
    for process, address in client.metrics_urls.items():
        answer = await client.http.get(f"{address}/metrics")
        assert answer.status_code == 200, answer.text
        for family in text_string_to_metric_families(answer.text):
            found |= {(process, one.name, *one.labels.values()): one.value for one in family.samples}
    return found


async def test_a_campaign_is_seen_in_the_metrics_of_every_process(client: Client, workspace: UUID) -> None:
    before = await scrape(client)
    bulksms_id = await client.created(workspace, csv_of(60))
    assert (await client.run(bulksms_id)).status_code == 202
    await until(lambda: client.completed(bulksms_id))
    assert (await client.callback({"status": "sent"})).status_code == 400
    reserve = "workspace_credit.WorkspaceCredit/ReserveCredit"
    # The least that 60 messages in batches of 50 do.
    least: Samples = {
        ("salesapi", "http_requests_total", "POST", "/create", "201"): 1,
        ("salesapi", "http_requests_total", "POST", "/run", "202"): 1,
        ("salesapi", "http_request_duration_seconds_count", "/bulksms/{bulksms_id}"): 1,
        ("salesapi", "http_requests_total", "POST", "/callback", "200"): 60,
        ("salesapi", "http_requests_total", "POST", "/callback", "400"): 1,
        ("salesapi", "bulksms_reports_total", "applied"): 60,
        ("salesapi", "bulksms_flush_reports_sum"): 60,
        ("salesapi", "bulksms_flush_seconds_count"): 1,
        ("salesapi", "bulksms_callback_lag_seconds_count"): 1,
        ("rpc", "grpc_server_handled_total", "OK", reserve): 1,
        ("rpc", "grpc_server_handling_seconds_count", reserve): 1,
        ("sales_worker", "bulksms_carrier_batches_total", "accepted"): 2,
        ("sales_worker", "bulksms_carrier_messages_total", "accepted"): 60,
        ("sales_worker", "bulksms_carrier_seconds_count"): 2,
        ("sales_worker", "bulksms_campaigns", "completed"): 1,
        ("carrier", "http_requests_total", "POST", "/messages", "202"): 2,
        ("general_worker", "bulksms_entries_total", "settled"): 1,
    }
    missing: list[tuple[str, ...]] = []

    async def all_there() -> bool:
        now = await scrape(client)
        missing[:] = [key for key, value in least.items() if now.get(key, 0) - before.get(key, 0) < value]
        return not missing

    with suppress(AssertionError):
        await until(all_there)
    assert missing == []


async def test_a_refused_call_is_counted_with_its_status(client: Client) -> None:
    before = await scrape(client)
    assert (await client.http.get(f"{client.webapi}/bulksms/{uuid4()}")).status_code == 404
    keys = (
        ("rpc", "grpc_server_handled_total", "NOT_FOUND", "bulksms.BulkSms/GetProgress"),
        ("webapi", "http_requests_total", "GET", "/bulksms/{bulksms_id}", "404"),
    )

    async def counted() -> list[float] | None:
        """A call is counted when it has been answered, which may be a moment after its answer was read."""
        after = await scrape(client)
        counts = [after.get(key, 0) - before.get(key, 0) for key in keys]
        return counts if min(counts) >= 1 else None

    assert await until(counted) == [1, 1]


async def test_the_audit_tells_when_it_was_and_what_it_found(client: Client) -> None:
    async def audited() -> bool:
        return (await scrape(client))["rpc", "bulksms_audit_timestamp_seconds"] > 0

    await until(audited)
    assert ("rpc", "bulksms_audit_differences") in await scrape(client)


async def test_websocket_clients_and_what_they_were_sent(client: Client, workspace: UUID) -> None:
    before = await scrape(client)
    async with connect(f"{client.webapi.replace('http', 'ws')}/ws") as socket:
        await socket.send(msgspec.json.encode({"workspace_id": str(workspace)}).decode())
        await socket.recv()

        async def counted() -> bool:
            during = await scrape(client)
            frames = ("webapi", "bulksms_websocket_frames_total")
            return during["webapi", "bulksms_websocket_clients"] >= 1 and during[frames] - before[frames] >= 1

        await until(counted)


async def test_a_job_waits_until_a_worker_has_begun_it(client: Client) -> None:
    jobs, queue = JobQueue.connect(client.settings.redis_url), f"arq:{uuid4()}"
    try:
        assert await jobs.waiting(queue) == (0, 0.0)
        await jobs.send(queue, "nothing", job_id=f"{queue}-first")
        await jobs.send(queue, "nothing")

        async def both_wait() -> bool:
            return (await jobs.waiting(queue)).jobs == 2

        await until(both_wait)
        await jobs._redis.set(f"arq:in-progress:{queue}-first", b"1", px=10_000)
        jobs_waiting, oldest = await jobs.waiting(queue)
        assert jobs_waiting == 1
        assert 0 <= oldest < 30
    finally:
        await jobs._redis.delete(queue)
        await jobs.close()


async def test_every_process_says_that_it_is_ready_and_what_it_needs(client: Client) -> None:
    for process in PROCESSES:
        address = process.metrics_url(client.settings)
        assert (await client.http.get(f"{address}/health")).json() == {"status": "up"}
        answer = await client.http.get(f"{address}/ready")
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["parts"]) == {"tasks", *process.needs}, process.name


async def test_a_worker_tells_which_part_it_waits_for(client: Client, tmp_path: Path) -> None:
    port = free_port()
    nowhere = {"DS_DSN": "postgresql://postgres@127.0.0.1:9/ds", "REDIS_URL": client.settings.redis_url}
    command = ["-m", "arq", "webapi.webapi.worker_swarm.general_worker.WorkerSettings"]
    with _process(*command, **nowhere, GENERAL_METRICS_PORT=str(port)):

        async def not_ready() -> httpx2.Response | None:
            try:
                answer = await client.http.get(f"http://127.0.0.1:{port}/ready")
            except httpx2.TransportError:
                return None
            return answer if answer.json()["parts"]["redis"] == "ok" else None

        answer = await until(not_ready)
        assert answer.status_code == 503
        assert answer.json()["detail"] == "waiting for ds"
        assert answer.json()["parts"]["redis"] == "ok"


async def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else(client: Client) -> None:
    address = f"127.0.0.1:{free_port()}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        dsns = {"DS_DSN": client.settings.ds_dsn, "SALESDB_DSN": client.settings.salesdb_dsn}
        with _process("console.py", "rpc", "serve", **dsns, RPC_ADDRESS=address, RPC_METRICS_PORT=port) as process:
            assert process.stderr is not None
            awaited = {"metrics are not served", "rpc listening"}
            while awaited and (line := process.stderr.readline()):
                awaited -= {words for words in awaited if words in line}
            assert not awaited


@contextmanager
def _process(*command: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **environ}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)
