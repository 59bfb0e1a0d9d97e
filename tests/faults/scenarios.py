"""What is survived: each scenario strikes campaigns in the middle and waits until every invariant was checked.

A scenario's group is its row in the README; its docstring says what happens.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx

from tests.faults import injections as strikes
from tests.faults.harness import Broken, Field, Struck
from tests.support.client import csv_of
from tests.support.workspaces import new_workspace

_LONGEST_STOP = 10.0  # seconds


class Scenario(NamedTuple):
    """One fault: its group, its name, and what strikes."""

    group: str
    name: str
    run: Callable[[Field], Awaitable[None]]


async def _struck(field: Field, strike: strikes.Strike, *, told: bool = True) -> None:
    """A campaign that one strike hits in the middle."""
    campaign = await field.campaign()
    await strike(field)
    await campaign.ends(told=told)


def _strike(group: str, name: str, strike: strikes.Strike) -> Scenario:
    return Scenario(group, name, lambda field: _struck(field, strike))


# A carrier without idempotency keys: what nobody knows about is never sent again.

_NO_KEYS = {"CARRIER_IDEMPOTENT": "false", "MESSAGE_VALIDITY": "5"}


def _without_keys(name: str, strike: strikes.Strike, *, told: bool = True) -> Scenario:
    async def run(field: Field) -> None:
        field.system.kill("sales_worker")
        await field.spawn("sales_worker", **_NO_KEYS)
        try:
            await _struck(field, strike, told=told)
        finally:
            field.system.kill("sales_worker")
            await field.spawn("sales_worker")

    return Scenario("a carrier without idempotency keys", name, run)


# Callbacks that a carrier should not send.


async def callbacks_that_make_no_sense(field: Field) -> None:
    """Repeated by others, for unknown ids, for a campaign that is paused, for one that is cancelled."""
    running, paused, cancelled = [await field.campaign(300) for _ in range(3)]
    await _control(field, "pause", paused)
    await _control(field, "cancel", cancelled)
    for _ in range(5):
        reports = [_report(f"{uuid4().hex}-0", "delivered"), _report("no id of ours", "sent")]
        for campaign in (running, paused, cancelled):
            for seq, status in (await asyncio.to_thread(field.told, campaign.prefix)).items():
                if status != "queued":
                    reports.append(_report(f"{campaign.prefix}-{seq}", status))
        field.rng.shuffle(reports)
        await asyncio.gather(*(_post(field, reports[i : i + 200]) for i in range(0, len(reports), 200)))
        await field.moment(0.5)
    await _control(field, "resume", paused)
    for campaign in (running, paused, cancelled):
        await campaign.ends()


def _report(message_id: str, status: str) -> dict[str, Any]:
    report = {"message_id": message_id, "status": status, "timestamp": datetime.now(UTC).isoformat()}
    if status == "failed":
        report["error_code"] = "unknown_subscriber"
    if status == "undelivered":
        report["error_code"] = "absent_subscriber"
    return report


async def _post(field: Field, reports: list[dict[str, Any]]) -> None:
    answer = await field.client.callback(reports)
    if answer.status_code not in (200, 503):
        raise Broken(f"a callback was answered {answer.status_code}: {answer.text}")


async def _control(field: Field, what: str, campaign: Struck) -> httpx.Response:
    """Pause, resume or cancel, and again until it is answered: all are idempotent."""

    async def answered() -> httpx.Response | None:
        answer = await field.client.http.post(f"{field.client.salesapi}/{what}", json={"bulksms_id": campaign.id})
        return answer if answer.status_code < 500 else None

    result: httpx.Response = await field.until(answered, f"/{what} is answered")
    return result


# Controls under faults.


async def paused_and_resumed_while_the_worker_dies(field: Field) -> None:
    """A campaign is paused, its worker killed, and resumed."""
    campaign = await field.campaign()
    await _control(field, "pause", campaign)
    await strikes.kill(field, "sales_worker")
    await _control(field, "resume", campaign)
    await campaign.ends()


async def cancelled_while_everything_dies(field: Field) -> None:
    """A campaign is cancelled; salesapi, the workers and rpc are killed right after the answer."""
    campaign = await field.campaign()
    await field.client.behave(trouble="lose_answer", times=3)
    await _control(field, "cancel", campaign)
    for name in ("salesapi", "sales_worker", "general_worker", "rpc"):
        field.system.kill(name)
    for name in ("rpc", "salesapi", "general_worker", "sales_worker"):
        await field.spawn(name)
    ended = await campaign.ends()
    if ended["status"] != "cancelled":
        raise Broken(f"the cancelled campaign is {ended['status']}")


async def started_while_everything_dies(field: Field) -> None:
    """/run is asked for; salesapi and rpc are killed at once, whether it was answered or not."""
    campaign = await field.campaign(run=False)
    asked = asyncio.create_task(field.client.run(campaign.id))
    await field.moment(0.03)
    field.system.kill("salesapi")
    field.system.kill("rpc")
    await asyncio.gather(asked, return_exceptions=True)
    requested = await field.salesdb.fetchval(
        "SELECT run_requested_at IS NOT NULL FROM bulksms WHERE id = $1", UUID(campaign.id)
    )
    for name in ("rpc", "salesapi"):
        await field.spawn(name)
    if not requested:  # the request died with the process, and its client asks again
        await field.client.run(campaign.id)
    await campaign.ends()


# Many at once.


async def fifty_runs_of_one_campaign(field: Field) -> None:
    """50 concurrent /run of one campaign: one starts it."""
    campaign = await field.campaign(100, run=False)
    answers = await asyncio.gather(*(field.client.run(campaign.id) for _ in range(50)))
    if sorted(answer.status_code for answer in answers) != [202] + [409] * 49:
        raise Broken(f"/run was answered {[answer.status_code for answer in answers]}")
    await campaign.ends()


async def twenty_campaigns_on_credit_for_seven(field: Field) -> None:
    """20 campaigns of one workspace run at once; its credit covers 7: exactly 7 run."""
    workspace = await new_workspace(field.ds, Decimal("7.5"))
    ids = [await field.client.created(workspace, csv_of(10)) for _ in range(20)]
    answers = await asyncio.gather(*(field.client.run(one) for one in ids))
    if sorted(answer.status_code for answer in answers) != [202] * 7 + [402] * 13:
        raise Broken(f"/run was answered {[answer.status_code for answer in answers]}")
    for bulksms_id, answer in zip(ids, answers, strict=True):
        if answer.status_code == 202:
            await field.until(partial(field.client.completed, bulksms_id), "the campaign ends")
    await field.books(workspace)


# Everything at once.


async def stopped_and_started(field: Field) -> None:
    """SIGTERM of everything: it ends within 10 s, drops no answer, and goes on where it was."""
    campaign = await field.campaign()
    acknowledged = asyncio.create_task(_callbacks_until_it_ends(field))
    await asyncio.sleep(0.5)
    begun = time.monotonic()
    killed = await asyncio.to_thread(field.system.stop_processes)
    seconds = time.monotonic() - begun
    field.system.start()
    if killed or seconds > _LONGEST_STOP:
        raise Broken(f"the stop took {seconds:.1f} s, killed: {killed}")
    bulksms_id, answered = await acknowledged
    rows = await field.salesdb.fetch(
        "SELECT seq FROM bulksms_info WHERE bulksms_id = $1 AND sms_status = 'delivered'", UUID(bulksms_id)
    )
    if lost := answered - {row["seq"] for row in rows}:
        raise Broken(f"I3: answered 200 and lost: {sorted(lost)[:10]}")
    await campaign.ends()


async def _callbacks_until_it_ends(field: Field) -> tuple[str, set[int]]:
    """Eight clients post reports on a campaign of our own until nobody answers; which were answered 200."""
    bulksms_id = await field.client.created(await new_workspace(field.ds, Decimal(2_000)), csv_of(20_000))
    answered: set[int] = set()

    async def post(seqs: range) -> None:
        for seq in seqs:
            try:
                answer = await field.client.callback(_report(f"{UUID(bulksms_id).hex}-{seq}", "delivered"))
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                raise Broken(f"a callback got no answer while salesapi ended: {error!r}") from None
            if answer.status_code == 200:
                answered.add(seq)

    await asyncio.gather(*(post(range(first, 20_000, 8)) for first in range(8)))
    return bulksms_id, answered


async def storm(field: Field, contacts: int = 20_000, blows: int = 20) -> None:
    """20 random strikes, one after another, at one campaign of 20,000."""
    campaign = await field.campaign(contacts)
    for _ in range(blows):
        name = field.rng.choice(sorted(strikes.ANY))
        await strikes.ANY[name](field)
        await field.moment(0.5)
    await campaign.ends()


_PROCESS, _REDIS, _POSTGRES = "a process killed", "Redis", "PostgreSQL"
_FROZEN, _CARRIER, _CONTROLS = "a process frozen for 10 s", "the carrier", "controls and callbacks"

SCENARIOS = [
    *(_strike(_PROCESS, f"kill -9 of {name}", partial(strikes.kill, name=name)) for name in strikes.PROCESSES),
    _strike(_REDIS, "killed, back with the past", strikes.redis_back_with_the_past),
    _strike(_REDIS, "killed and wiped", strikes.redis_wiped),
    _strike(_REDIS, "frozen for 5 s", strikes.redis_frozen),
    *(
        _strike(_POSTGRES, f"{name} {what}", partial(strike, name=name))
        for name in strikes.DATABASES
        for what, strike in (
            ("stopped in immediate mode", strikes.database_crashed),
            ("connections cut", strikes.connections_cut),
            ("read-only for 3 s", strikes.database_read_only),
            ("connections exhausted for 3 s", strikes.connections_exhausted),
        )
    ),
    *(
        _strike(_FROZEN, f"{name} frozen", partial(strikes.freeze, name=name))
        for name in ("sales_worker", "general_worker", "salesapi", "rpc", "carrier")
    ),
    *(
        _strike(_CARRIER, f"answers {trouble}", partial(strikes.carrier_in_trouble, trouble=trouble))
        for trouble in strikes.TROUBLES
    ),
    _strike(_CARRIER, "reports late", strikes.carrier_silent),
    *(
        _without_keys(f"answers {one}", partial(strikes.carrier_in_trouble, trouble=one), told=one != "drop")
        for one in ("lose_answer", "half_answer", "error", "drop")
    ),
    _without_keys("kill -9 of sales_worker", partial(strikes.kill, name="sales_worker", **_NO_KEYS), told=False),
    _without_keys("sales_worker frozen", partial(strikes.freeze, name="sales_worker"), told=False),
    Scenario(_CONTROLS, "callbacks repeated, unknown, of paused and cancelled", callbacks_that_make_no_sense),
    Scenario(_CONTROLS, "paused, worker killed, resumed", paused_and_resumed_while_the_worker_dies),
    Scenario(_CONTROLS, "cancelled, all killed", cancelled_while_everything_dies),
    Scenario(_CONTROLS, "started, all killed", started_while_everything_dies),
    Scenario("many at once", "50 /run of one campaign", fifty_runs_of_one_campaign),
    Scenario("many at once", "20 campaigns on credit for 7", twenty_campaigns_on_credit_for_seven),
    Scenario("everything stopped", "SIGTERM of all, started again", stopped_and_started),
    Scenario("a storm", "20 strikes at 20,000 contacts", storm),
]
