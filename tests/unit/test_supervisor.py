"""The supervisor of background tasks."""

import asyncio
from itertools import repeat

import pytest

from common import supervisor
from common.observability.counters import failures
from common.supervisor import Supervisor, TaskFailedError


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is started again without a pause."""
    monkeypatch.setattr(supervisor, "backoff", lambda: repeat(0.0))


async def forever() -> None:
    await asyncio.Event().wait()


async def test_a_task_that_keeps_failing_fails_the_supervisor() -> None:
    watched = Supervisor()

    async def cancelled_inside() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner

    watched.start("one", cancelled_inside)
    watched.start("other", forever)
    await asyncio.wait_for(watched.failed.wait(), 10)
    with pytest.raises(TaskFailedError, match="one has failed: something that it awaited was cancelled"):
        watched.check()
    await watched.stop()


async def test_a_task_that_returns_has_failed_unless_it_is_to_run_once() -> None:
    watched, third = Supervisor(), asyncio.Event()
    runs = 0

    async def returns() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            third.set()
            await forever()

    async def done() -> None: ...

    before = failures["task", "returns"]
    watched.start("done", done, once=True)
    watched.start("returns", returns)
    await asyncio.wait_for(third.wait(), 10)
    assert failures["task", "returns"] == before + 2
    assert ("task", "done") not in failures
    assert not watched.failed.is_set()
    watched.check()
    await watched.stop()
