"""The scenarios: each injects faults during campaigns, and checks every invariant afterwards.

A scenario's group is its row in the README; its docstring describes the fault.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import httpx2

from tests.faults import injections
from tests.faults.harness import Harness, InvariantViolation, WatchedCampaign
from tests.faults.injections import Injection
from tests.support.client import csv_of
from tests.support.workspaces import hand_over, new_workspace

_STOP_TIMEOUT = 10.0  # seconds


class Scenario(NamedTuple):
    """One fault: its group, its name, and what runs it."""

    group: str
    name: str
    run: Callable[[Harness], Awaitable[None]]


async def _run_with(harness: Harness, inject: Injection, *, as_reported: bool = True) -> None:
    """Run a campaign and inject one fault in the middle."""
    campaign = await harness.campaign()
    await inject(harness)
    await campaign.ends(as_reported=as_reported)


def _one_fault(group: str, name: str, inject: Injection) -> Scenario:
    return Scenario(group, name, lambda harness: _run_with(harness, inject))


# A carrier without idempotency keys: a batch in an unknown state is never sent again.

_NO_IDEMPOTENCY_KEYS = {"CARRIER_IDEMPOTENT": "false", "MESSAGE_VALIDITY": "5"}


def _without_idempotency_keys(name: str, inject: Injection, *, as_reported: bool = True) -> Scenario:
    async def run(harness: Harness) -> None:
        harness.system.kill("sales_worker")
        await harness.spawn("sales_worker", **_NO_IDEMPOTENCY_KEYS)
        try:
            await _run_with(harness, inject, as_reported=as_reported)
        finally:
            harness.system.kill("sales_worker")
            await harness.spawn("sales_worker")

    return Scenario("a carrier without idempotency keys", name, run)


# Callbacks that a carrier should not send.


async def unexpected_callbacks(harness: Harness) -> None:
    """Callbacks are repeated, and sent for unknown ids, for a paused and for a cancelled campaign."""
    running, paused, cancelled = [await harness.campaign(300) for _ in range(3)]
    await _control(harness, "pause", paused)
    await _control(harness, "cancel", cancelled)
    for _ in range(5):
        reports = [_report(f"{uuid4().hex}-0", "delivered"), _report("no id of ours", "sent")]
        for campaign in (running, paused, cancelled):
            for seq, status in (await asyncio.to_thread(harness.reported, campaign.prefix)).items():
                if status != "queued":
                    reports.append(_report(f"{campaign.prefix}-{seq}", status))
        harness.rng.shuffle(reports)
        await asyncio.gather(*(_post(harness, reports[i : i + 200]) for i in range(0, len(reports), 200)))
        await harness.random_pause(0.5)
    await _control(harness, "resume", paused)
    for campaign in (running, paused, cancelled):
        await campaign.ends()


def _report(message_id: str, status: str) -> dict[str, Any]:
    report = {"message_id": message_id, "status": status, "timestamp": datetime.now(UTC).isoformat()}
    if status == "failed":
        report["error_code"] = "unknown_subscriber"
    if status == "undelivered":
        report["error_code"] = "absent_subscriber"
    return report


async def _post(harness: Harness, reports: list[dict[str, Any]]) -> None:
    answer = await harness.client.callback(reports)
    if answer.status_code not in (200, 503):
        raise InvariantViolation(f"a callback was answered {answer.status_code}: {answer.text}")


async def _control(harness: Harness, what: str, campaign: WatchedCampaign) -> httpx2.Response:
    """Pause, resume or cancel, with retries until it is answered: all are idempotent."""

    async def answered() -> httpx2.Response | None:
        answer = await harness.client.http.post(f"{harness.client.salesapi}/{what}", json={"bulksms_id": campaign.id})
        return answer if answer.status_code < 500 else None

    result: httpx2.Response = await harness.until(answered, f"/{what} is answered")
    return result


# Controls under faults.


async def paused_and_resumed_while_the_worker_dies(harness: Harness) -> None:
    """A campaign is paused, its worker killed, and resumed."""
    campaign = await harness.campaign()
    await _control(harness, "pause", campaign)
    await injections.kill(harness, "sales_worker")
    await _control(harness, "resume", campaign)
    await campaign.ends()


async def cancelled_while_everything_dies(harness: Harness) -> None:
    """A campaign is cancelled; salesapi, the workers and rpc are killed right after the answer."""
    await harness.client.behave(paused=True)  # so that it cannot end before it is cancelled
    campaign = await harness.campaign()
    await harness.client.behave(trouble="lose_answer", times=3)
    await _control(harness, "cancel", campaign)
    await harness.client.behave(paused=False)
    for name in ("salesapi", "sales_worker", "general_worker", "rpc"):
        harness.system.kill(name)
    for name in ("rpc", "salesapi", "general_worker", "sales_worker"):
        await harness.spawn(name)
    ended = await campaign.ends()
    if ended["status"] != "cancelled":
        raise InvariantViolation(f"the cancelled campaign is {ended['status']}")


async def started_while_everything_dies(harness: Harness) -> None:
    """salesapi and rpc are killed right after a /run, whether it was answered or not."""
    campaign = await harness.campaign(run=False)
    run = asyncio.create_task(harness.client.run(campaign.id))
    await harness.random_pause(0.03)
    harness.system.kill("salesapi")
    harness.system.kill("rpc")
    await asyncio.gather(run, return_exceptions=True)
    requested = await harness.salesdb.fetchval(
        "SELECT run_requested_at IS NOT NULL FROM bulksms WHERE id = $1", UUID(campaign.id)
    )
    for name in ("rpc", "salesapi"):
        await harness.spawn(name)
    if not requested:  # the request was lost with the process, and its client retries
        await harness.client.run(campaign.id)
    await campaign.ends()


# Concurrent requests.


async def fifty_runs_of_one_campaign(harness: Harness) -> None:
    """50 concurrent /run of one campaign: one starts it."""
    campaign = await harness.campaign(100, run=False)
    answers = await asyncio.gather(*(harness.client.run(campaign.id) for _ in range(50)))
    if sorted(answer.status_code for answer in answers) != [202] + [409] * 49:
        raise InvariantViolation(f"/run was answered {[answer.status_code for answer in answers]}")
    await campaign.ends()


async def twenty_campaigns_on_credit_for_seven(harness: Harness) -> None:
    """20 campaigns of one workspace run at once; its credit covers 7: exactly 7 run."""
    workspace = await new_workspace(harness.ds, Decimal("7.5"))
    ids = [await harness.client.created(workspace, csv_of(10)) for _ in range(20)]
    # Without reports no campaign ends, and none releases credit that an eighth could reserve.
    await harness.client.behave(paused=True)
    answers = await asyncio.gather(*(harness.client.run(bulksms_id) for bulksms_id in ids))
    await harness.client.behave(paused=False)
    if sorted(answer.status_code for answer in answers) != [202] * 7 + [402] * 13:
        raise InvariantViolation(f"/run was answered {[answer.status_code for answer in answers]}")
    for bulksms_id, answer in zip(ids, answers, strict=True):
        if answer.status_code == 202:
            await harness.until(partial(harness.client.completed, bulksms_id), "the campaign ends")
    await harness.check_invariants(workspace)


# Stop and start of everything.


async def stopped_and_started(harness: Harness) -> None:
    """SIGTERM of everything: it stops within 10 s, loses no acknowledged report, and continues after the start."""
    campaign = await harness.campaign()
    bulksms_id = await harness.client.created(await new_workspace(harness.ds, Decimal(2_000)), csv_of(20_000))
    await hand_over(harness.salesdb, bulksms_id)
    answered: set[int] = set()
    posting = asyncio.create_task(_post_reports_until_salesapi_ends(harness, bulksms_id, answered))
    await harness.until(partial(_has_some, answered), "callbacks are answered")
    started_at = time.monotonic()
    killed = await asyncio.to_thread(harness.system.stop_processes)
    seconds = time.monotonic() - started_at
    harness.system.start()
    if killed or seconds > _STOP_TIMEOUT:
        raise InvariantViolation(f"the stop took {seconds:.1f} s, killed: {killed}")
    await posting
    rows = await harness.salesdb.fetch(
        "SELECT seq FROM bulksms_info WHERE bulksms_id = $1 AND sms_status = 'delivered'", UUID(bulksms_id)
    )
    if lost := answered - {row["seq"] for row in rows}:
        raise InvariantViolation(f"I3: answered 200 and lost: {sorted(lost)[:10]}")
    await campaign.ends()


async def _has_some(answered: set[int]) -> bool:
    return len(answered) > 100


async def _post_reports_until_salesapi_ends(harness: Harness, bulksms_id: str, answered: set[int]) -> None:
    """Post reports with eight clients until salesapi ends; add the seqs that were answered 200 to `answered`."""

    async def post(seqs: range) -> None:
        for seq in seqs:
            try:
                answer = await harness.client.callback(_report(f"{UUID(bulksms_id).hex}-{seq}", "delivered"))
            except httpx2.ConnectError:
                return
            except httpx2.HTTPError as error:
                raise InvariantViolation(f"a callback got no answer while salesapi ended: {error!r}") from None
            if answer.status_code == 200:
                answered.add(seq)

    await asyncio.gather(*(post(range(first, 20_000, 8)) for first in range(8)))


async def many_random_faults(harness: Harness, contacts: int = 20_000, faults: int = 20) -> None:
    """20 random faults, one after another, in one campaign of 20,000."""
    campaign = await harness.campaign(contacts)
    for _ in range(faults):
        name = harness.rng.choice(sorted(injections.INJECTIONS))
        await injections.INJECTIONS[name](harness)
        await harness.random_pause(0.5)
    await campaign.ends()


_PROCESS, _REDIS, _POSTGRES = "a process killed", "Redis", "PostgreSQL"
_FROZEN, _CARRIER, _CONTROLS = "a process frozen for 10 s", "the carrier", "controls and callbacks"

SCENARIOS = [
    *(_one_fault(_PROCESS, f"kill -9 of {name}", partial(injections.kill, name=name)) for name in injections.PROCESSES),
    _one_fault(_REDIS, "killed, restarted from an old snapshot", injections.redis_restarted_from_an_old_snapshot),
    _one_fault(_REDIS, "killed and wiped", injections.redis_wiped),
    _one_fault(_REDIS, "frozen for 5 s", injections.redis_frozen),
    *(
        _one_fault(_POSTGRES, f"{name} {what}", partial(inject, name=name))
        for name in injections.DATABASES
        for what, inject in (
            ("stopped in immediate mode", injections.database_crashed),
            ("connections cut", injections.connections_cut),
            ("read-only for 3 s", injections.database_read_only),
            ("connections exhausted for 3 s", injections.connections_exhausted),
        )
    ),
    *(
        _one_fault(_FROZEN, f"{name} frozen", partial(injections.freeze, name=name))
        for name in ("sales_worker", "general_worker", "salesapi", "rpc", "carrier")
    ),
    *(
        _one_fault(_CARRIER, f"answers {trouble}", partial(injections.carrier_in_trouble, trouble=trouble))
        for trouble in injections.TROUBLES
    ),
    _one_fault(_CARRIER, "reports late", injections.carrier_silent),
    *(
        _without_idempotency_keys(
            f"answers {one}", partial(injections.carrier_in_trouble, trouble=one), as_reported=one != "drop"
        )
        for one in ("lose_answer", "half_answer", "error", "drop")
    ),
    _without_idempotency_keys(
        "kill -9 of sales_worker",
        partial(injections.kill, name="sales_worker", environ=_NO_IDEMPOTENCY_KEYS),
        as_reported=False,
    ),
    _without_idempotency_keys(
        "sales_worker frozen", partial(injections.freeze, name="sales_worker"), as_reported=False
    ),
    Scenario(_CONTROLS, "callbacks repeated, unknown, of paused and cancelled", unexpected_callbacks),
    Scenario(_CONTROLS, "paused, worker killed, resumed", paused_and_resumed_while_the_worker_dies),
    Scenario(_CONTROLS, "cancelled, all killed", cancelled_while_everything_dies),
    Scenario(_CONTROLS, "started, all killed", started_while_everything_dies),
    Scenario("many at once", "50 /run of one campaign", fifty_runs_of_one_campaign),
    Scenario("many at once", "20 campaigns on credit for 7", twenty_campaigns_on_credit_for_seven),
    Scenario("everything stopped", "SIGTERM of all, started again", stopped_and_started),
    Scenario("many faults", "20 random faults at 20,000 contacts", many_random_faults),
]
