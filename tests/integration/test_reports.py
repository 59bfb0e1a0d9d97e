"""The statement that applies reports, on a real salesdb: any order, repetition and batching ends the same (I4)."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulksms import apply_reports, campaigns, message_id
from bulksms.apply_reports import DeliveryReport
from bulksms.report_writer import BufferFullError, Outcome, ReportWriter
from bulksms.status import SmsStatus
from common.database import Database
from common.observability.counters import failures
from local.launcher import System

_CONTACTS = 4

Event = tuple[int, SmsStatus, str | None]

_NEWS = st.tuples(
    st.integers(0, _CONTACTS - 1),
    st.sampled_from([status for status in SmsStatus if status != SmsStatus.QUEUED]),
    st.sampled_from([None, "E1", "E2"]),
)


@pytest.fixture(scope="module")
async def database(system: System) -> AsyncIterator[Database]:
    made = Database("salesdb", system.settings.salesdb_dsn)
    await made.open()
    yield made
    await made.close()


async def new_campaign(database: Database) -> UUID:
    async with database.transaction() as connection:
        bulksms_id: UUID = await connection.fetchval("SELECT uuidv7()")
        await connection.execute(
            "INSERT INTO bulksms_info (bulksms_id, seq, contact_number, contact_name, sms_cost) "
            "SELECT $1, n, '+358401234567', '', 0.2 FROM generate_series(0, $2::int - 1) AS n",
            bulksms_id,
            _CONTACTS,
        )
        await connection.execute(
            "INSERT INTO bulksms (id, name, workspace_id, message, encoding, segments, row_count, contact_count, "
            "rejected_count, duplicate_count, total_cost, queued_count) "
            "VALUES ($1, '', $2, 'm', 'GSM-7', 2, $3, $3, 0, 0, $3::int * 0.2, $3)",
            bulksms_id,
            uuid4(),
            _CONTACTS,
        )
        await connection.execute(
            "INSERT INTO bulksms_batch (bulksms_id, batch_no, first_seq, last_seq, state, attempt, submitted_at) "
            "VALUES ($1, 0, 0, $2::int - 1, 'submitted', 1, now())",
            bulksms_id,
            _CONTACTS,
        )
    return bulksms_id


async def outcome(
    database: Database, bulksms_id: UUID
) -> tuple[list[tuple[str, str | None]], dict[SmsStatus, int], Decimal]:
    """The rows, the counters and the charge of a campaign."""
    campaign = await campaigns.get(database, bulksms_id)
    page = await campaigns.contacts(database, campaign, status=None, after=-1, limit=_CONTACTS)
    async with database.connection() as connection:
        owed = await connection.fetchval(
            "SELECT coalesce(sum(amount), 0) FROM outbox WHERE bulksms_id = $1 AND kind = 'charge'", bulksms_id
        )
    assert owed == campaign.charged
    assert sum(campaign.statuses.values()) == _CONTACTS
    return [(row.sms_status, row.error_code) for row in page.contacts], campaign.statuses, owed


def cut(news: Sequence[Event], dice: random.Random) -> list[list[Event]]:
    """The news in batches of any size."""
    batches: list[list[Event]] = []
    rest = list(news)
    while rest:
        size = dice.randint(1, len(rest))
        batches.append(rest[:size])
        rest = rest[size:]
    return batches


@given(st.lists(_NEWS, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_any_order_repetition_and_batching_gives_the_same_result(
    database: Database, news: list[Event], dice: random.Random
) -> None:
    ends = []
    for again in range(3):
        bulksms_id = await new_campaign(database)
        mixed = [*news, *dice.choices(news, k=again * 2)]
        dice.shuffle(mixed)
        calls = [
            apply_reports.apply(database, [DeliveryReport(bulksms_id, *one) for one in batch])
            for batch in cut(mixed, dice)
        ]
        if again == 2:
            await asyncio.gather(*calls)
        else:
            for call in calls:
                await call
        ends.append(await outcome(database, bulksms_id))
    assert ends[0] == ends[1] == ends[2]
    rows, _, owed = ends[0]
    assert owed == Decimal("0.2") * sum(status in ("sent", "undelivered", "delivered") for status, _ in rows)


@given(st.permutations(["sent", "delivered"]), st.integers(0, 3))
async def test_consistent_reports_end_delivered(database: Database, order: list[str], repeated: int) -> None:
    bulksms_id = await new_campaign(database)
    for status in [*order, *order[:repeated]]:
        await apply_reports.apply(database, [DeliveryReport(bulksms_id, 0, SmsStatus(status), None)])
    rows, _, owed = await outcome(database, bulksms_id)
    assert (rows[0], owed) == (("delivered", None), Decimal("0.2"))


async def test_each_caller_gets_the_outcome_of_its_own_reports(database: Database) -> None:
    bulksms_id = await new_campaign(database)
    entries: list[object] = []
    writer = ReportWriter(database, buffer=20, flush=5, on_entries=entries.extend)
    sent = DeliveryReport(bulksms_id, 0, SmsStatus.SENT, None)
    calls = [
        asyncio.create_task(writer.write(steps))
        for steps in ([sent], [sent, sent], [DeliveryReport(bulksms_id, 77, SmsStatus.SENT, None)])
    ]
    await asyncio.sleep(0)
    with pytest.raises(BufferFullError):
        await writer.write([sent] * 17)
    writing = asyncio.create_task(writer.run())
    outcomes = await asyncio.gather(*calls)
    assert outcomes[2] == Outcome(0, 0, 1)
    assert sum(one.applied for one in outcomes) == 1
    assert sum(one.stale for one in outcomes) == 2
    assert len(entries) == 1
    await writer.close()
    writing.cancel()


async def test_a_failing_observer_does_not_affect_the_writer(database: Database) -> None:
    bulksms_id = await new_campaign(database)

    def fail(what: object) -> None:
        raise RuntimeError("injected")

    before = failures["observer", "report writer: on_entries"]
    writer = ReportWriter(database, buffer=20, flush=5, on_entries=fail, on_changed=fail, on_flush=fail)
    writing = asyncio.create_task(writer.run())
    for status, applied in ((SmsStatus.SENT, 1), (SmsStatus.DELIVERED, 1), (SmsStatus.SENT, 0)):
        outcome = await asyncio.wait_for(writer.write([DeliveryReport(bulksms_id, 0, status, None)]), 10)
        assert outcome.applied == applied
    assert failures["observer", "report writer: on_entries"] == before + 1
    await writer.close()
    writing.cancel()


async def test_an_unavailable_database_is_reported_to_the_caller() -> None:
    nowhere = Database("salesdb", "postgresql://postgres@127.0.0.1:9/salesdb")
    await nowhere.open()
    writer = ReportWriter(nowhere, buffer=10, flush=5, on_entries=lambda entries: None)
    writing = asyncio.create_task(writer.run())
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        await writer.write([DeliveryReport(uuid4(), 0, SmsStatus.SENT, None)])
    await writer.close()
    writing.cancel()


@given(st.uuids(), st.integers(0, 2**31 - 1))
def test_a_message_id_holds_its_row(bulksms_id: UUID, seq: int) -> None:
    assert message_id.decode(message_id.encode(bulksms_id, seq)) == (bulksms_id, seq)


@given(st.one_of(st.text(max_size=60), st.from_regex(r"[0-9a-f]{32}-[0-9]{9,12}", fullmatch=True)))
def test_no_text_breaks_the_decoder(text: str) -> None:
    row = message_id.decode(text)
    assert row is None or 0 <= row[1] < 2**31
