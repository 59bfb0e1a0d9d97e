"""Reports on messages that cannot have left change nothing, whoever has signed them."""

import asyncio
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.support.client import Client, csv_of
from tests.support.invariants import check_invariants, violations
from tests.support.polling import until


def reports(bulksms_id: str, count: int, status: str) -> list[dict[str, Any]]:
    now = datetime.now(UTC).isoformat()
    return [{"message_id": f"{UUID(bulksms_id).hex}-{seq}", "status": status, "timestamp": now} for seq in range(count)]


async def outcome(client: Client, sent: list[dict[str, Any]]) -> dict[str, int]:
    """The counts of the reports, which are sent in callbacks of 1,000."""
    total: Counter[str] = Counter(applied=0, stale=0, unknown=0)
    for start in range(0, len(sent), 1_000):
        answer = await client.callback(sent[start : start + 1_000])
        assert answer.status_code == 200, answer.text
        total.update(answer.json())
    return dict(total)


async def is_ended(client: Client, bulksms_id: str) -> bool:
    return (await client.campaign(bulksms_id))["completed_at"] is not None


async def test_a_campaign_that_was_not_run_or_was_discarded_gets_no_reports(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    draft, discarded = [await client.created(workspace, csv_of(2, first=first)) for first in (0, 2)]
    url = f"{client.salesapi}/cancel"
    assert (await client.http.post(url, json={"bulksms_id": discarded})).json()["status"] == "cancelled"
    for bulksms_id in (draft, discarded, str(uuid4())):
        for status in ("delivered", "delivered", "failed"):
            assert await outcome(client, reports(bulksms_id, 2, status)) == {"applied": 0, "stale": 0, "unknown": 2}
    mixed = [*reports(draft, 1, "sent"), {**reports(draft, 1, "sent")[0], "message_id": "no id of ours"}]
    assert (await outcome(client, mixed))["unknown"] == 2
    for bulksms_id in (draft, discarded):
        campaign = await client.campaign(bulksms_id)
        assert (campaign["contacts"]["queued"], campaign["charged"]) == (2, "0.0")
    assert await violations(client, ds, salesdb, workspace) == []
    assert (await client.workspace(workspace))["credit"] == "1000.0"
    await client.run(draft)
    await until(lambda: client.completed(draft))
    await check_invariants(client, ds, salesdb, workspace)


async def test_unsent_messages_of_a_paused_or_cancelled_campaign_get_no_reports(
    client: Client, ds: asyncpg.Pool, salesdb: asyncpg.Pool, workspace: UUID
) -> None:
    """The carrier has some of the batches; a late report on those still counts, before and after the end."""
    await client.behave(mps=50, paused=True)
    paused, cancelled = [await client.created(workspace, csv_of(2_000, first=first)) for first in (0, 2_000)]
    await asyncio.gather(client.run(paused), client.run(cancelled))
    for bulksms_id, what in ((paused, "pause"), (cancelled, "cancel")):
        await until(lambda one=bulksms_id: _submitted(salesdb, one))  # type: ignore[misc]
        await client.http.post(f"{client.salesapi}/{what}", json={"bulksms_id": bulksms_id})
    for bulksms_id in (paused, cancelled):
        await until(lambda one=bulksms_id: _is_quiet(salesdb, one))  # type: ignore[misc]
        left = await _submitted(salesdb, bulksms_id)
        assert 0 < left < 2_000
        first = await outcome(client, reports(bulksms_id, 2_000, "undelivered"))
        assert first == {"applied": left, "stale": 0, "unknown": 2_000 - left}
        assert (await client.campaign(bulksms_id))["charged"] == f"{left / 10:.1f}"
    await until(lambda: is_ended(client, cancelled))
    late = await outcome(client, reports(cancelled, 2_000, "delivered"))
    assert late["applied"] == await _submitted(salesdb, cancelled)
    await client.behave(mps=0, paused=False)
    await client.http.post(f"{client.salesapi}/resume", json={"bulksms_id": paused})
    await until(lambda: client.completed(paused))
    await check_invariants(client, ds, salesdb, workspace)


async def _submitted(salesdb: asyncpg.Pool, bulksms_id: str) -> int:
    query = """
        SELECT coalesce(sum(last_seq - first_seq + 1), 0) FROM bulksms_batch
        WHERE bulksms_id = $1 AND submitted_at IS NOT NULL
    """
    return int(await salesdb.fetchval(query, UUID(bulksms_id)))


async def _is_quiet(salesdb: asyncpg.Pool, bulksms_id: str) -> bool:
    query = "SELECT NOT EXISTS (SELECT FROM bulksms_batch WHERE bulksms_id = $1 AND state = 'submitting')"
    return bool(await salesdb.fetchval(query, UUID(bulksms_id)))
