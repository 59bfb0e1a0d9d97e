"""`POST /callback`: what is answered 200 is committed, and any order of reports ends the same."""

import asyncio
import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from local.launcher import System
from tests.support.client import Client, csv_of, problem
from tests.support.workspaces import hand_over


def report(bulksms_id: str, seq: int, status: str, **more: Any) -> dict[str, Any]:
    message_id = f"{UUID(bulksms_id).hex}-{seq}"
    return {"message_id": message_id, "status": status, "timestamp": datetime.now(UTC).isoformat(), **more}


async def rows(salesdb: asyncpg.Pool, bulksms_id: str) -> list[tuple[str, str | None]]:
    found = await salesdb.fetch(
        "SELECT sms_status::text, error_code FROM bulksms_info WHERE bulksms_id = $1 ORDER BY seq", UUID(bulksms_id)
    )
    return [tuple(row) for row in found]


async def charged(salesdb: asyncpg.Pool, bulksms_id: str) -> list[Any]:
    """What the campaign says it was charged, and what its outbox says."""
    found = await salesdb.fetchrow(
        """
        SELECT charged, (SELECT coalesce(sum(amount), 0) FROM outbox WHERE bulksms_id = id AND kind = 'charge')
        FROM bulksms WHERE id = $1
        """,
        UUID(bulksms_id),
    )
    assert found is not None
    return list(found)


async def test_one_report_or_an_array_with_counts(client: Client, salesdb: asyncpg.Pool, workspace: UUID) -> None:
    bulksms_id = await client.created(workspace, csv_of(3))
    await hand_over(salesdb, bulksms_id)
    answer = await client.callback(report(bulksms_id, 0, "sent"))
    assert (answer.status_code, answer.json()) == (200, {"applied": 1, "stale": 0, "unknown": 0})
    answer = await client.callback(
        [
            report(bulksms_id, 0, "delivered"),
            report(bulksms_id, 0, "sent"),
            report(bulksms_id, 1, "failed", error_code="E7"),
            report(bulksms_id, 99, "sent"),
            report(str(uuid4()), 0, "sent"),
            {**report(bulksms_id, 1, "sent"), "message_id": "no-id-of-ours"},
        ]
    )
    assert answer.json() == {"applied": 2, "stale": 1, "unknown": 3}
    assert await rows(salesdb, bulksms_id) == [("delivered", None), ("failed", "E7"), ("queued", None)]
    assert (await client.campaign(bulksms_id))["charged"] == "0.1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'{"message_id": "x", "status": "sent"}',
        b'{"message_id": "x", "status": "queued", "timestamp": "2026-01-01T00:00:00Z"}',
        b'{"message_id": "x", "status": "sent", "timestamp": "2026-01-01T00:00:00"}',
        b'{"message_id": "x", "status": "sent", "timestamp": "2026-01-01T00:00:00Z", "error_code": "\\u0000"}',
        b"[" + b",".join([b'{"message_id":"x","status":"sent","timestamp":"2026-01-01T00:00:00Z"}'] * 1001) + b"]",
    ],
)
async def test_an_invalid_report_is_400(client: Client, body: bytes) -> None:
    answer = await client.post_callback(body)
    assert "send {message_id" in problem(answer, 400)


async def test_every_order_of_reports_gives_the_same_row_and_charge(
    client: Client, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """I4, over all orders of all that a carrier may tell of one message, contradictions and repetitions included."""
    kinds = [("sent", None), ("failed", "E1"), ("undelivered", "E2"), ("delivered", None), ("sent", None)]
    orders = list(itertools.permutations(kinds))
    bulksms_id = await client.created(workspace, csv_of(len(orders)))
    await hand_over(salesdb, bulksms_id)
    for step in range(len(kinds)):
        reports = [report(bulksms_id, seq, order[step][0]) for seq, order in enumerate(orders)]
        answers = await asyncio.gather(client.callback(reports[:70]), client.callback(reports[70:]))
        assert [answer.status_code for answer in answers] == [200, 200]
    assert set(await rows(salesdb, bulksms_id)) == {("delivered", None)}
    assert {str(one) for one in await charged(salesdb, bulksms_id)} == {"12.0"}


async def test_concurrent_callbacks_for_the_same_messages_are_applied_once(
    client: Client, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    bulksms_id = await client.created(workspace, csv_of(50))
    await hand_over(salesdb, bulksms_id)
    forwards = [report(bulksms_id, seq, "delivered") for seq in range(50)]
    answers = await asyncio.gather(
        *(client.callback(forwards if i % 2 else forwards[::-1]) for i in range(12)),
        *(client.callback(one) for one in forwards),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["applied"] for answer in answers) == 50
    assert sum(answer.json()["stale"] for answer in answers) == 12 * 50
    assert {str(one) for one in await charged(salesdb, bulksms_id)} == {"5.0"}


async def test_reports_answered_200_survive_a_kill_of_everything(
    system: System, client: Client, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """I3: the process is killed and the database crashes right after the answer."""
    bulksms_id = await client.created(workspace, csv_of(200))
    await hand_over(salesdb, bulksms_id)
    answers = await asyncio.gather(*(client.callback([report(bulksms_id, seq, "delivered")]) for seq in range(200)))
    system.kill("salesapi")
    assert system.salesdb is not None
    system.salesdb.crash()
    system.salesdb.start()
    system.restart("salesapi")
    assert {answer.status_code for answer in answers} == {200}
    await salesdb.expire_connections()
    assert set(await rows(salesdb, bulksms_id)) == {("delivered", None)}


async def test_a_full_buffer_is_answered_503(
    system: System, client: Client, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """I8: while the database is stuck, no more than the buffer waits; afterwards all that was answered 200 is there."""
    count, buffered = 25_000, system.settings.callback_buffer // 1000
    bulksms_id = await client.created(workspace, csv_of(count))
    await hand_over(salesdb, bulksms_id)
    reports = [report(bulksms_id, seq, "sent") for seq in range(count)]
    async with salesdb.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("SELECT FROM bulksms WHERE id = $1 FOR UPDATE", UUID(bulksms_id))
        calls = [asyncio.create_task(client.callback(reports[i : i + 1000])) for i in range(0, count, 1000)]
        refused = [await call for call in itertools.islice(asyncio.as_completed(calls), len(calls) - buffered)]
        full = refused[-1]
        assert "too many" in problem(full, 503)
        assert int(full.headers["retry-after"]) >= 1
        await transaction.rollback()
    answers = await asyncio.gather(*calls)
    taken = sum(1000 for answer in answers if answer.status_code == 200)
    assert 1000 <= taken <= system.settings.callback_buffer
    assert (await client.campaign(bulksms_id))["contacts"]["sent"] == taken
