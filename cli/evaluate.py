"""Evaluating the system: a campaign for each of some files, while CPU and memory of every process are sampled."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from time import monotonic

from rich.progress import Progress as ProgressBar

from cli import display
from cli.api import Api
from cli.demo import MESSAGE, top_up_if_needed
from cli.errors import ClientError
from cli.send import create
from cli.session import Session
from cli.watch import Follower, watching_credit
from common.jobs import JobQueue, JobsUnavailableError
from common.settings import COMMAND
from common.topology import GENERATE_SYSTEM_STAT, SALES_QUEUE
from local.evaluation.processes import NAMES, Processes
from local.evaluation.report import write
from local.evaluation.sampling import Evaluation, Progress, Sampler

_SAMPLE_TIMEOUT = 30.0  # seconds to wait for one on a busy machine
_FINISHING = 60.0  # seconds that a worker may take to draw what it has sampled


async def evaluate(session: Session, *, files: Sequence[Path], folder: Path, period: float, margin: float) -> bool:
    """Run a campaign for each file, with a sample every `period` seconds, from `margin` seconds before it to after it.

    Leaves the samples, plots and a report in `folder`.
    """
    if missing := NAMES - Processes(session.settings).find().keys():
        session.screen.say(f"not on this machine, so not sampled: {', '.join(sorted(missing))}")
    made = [await _campaign(session, name, file, period, margin) for name, file in _names(files)]
    report = await asyncio.to_thread(write, folder, made)
    columns = ("file", "contacts", "seconds", "peak CPU", "peak memory", "charged")
    session.screen.show(display.table_of([_row(one) for one in made], *columns, right=columns[1:]))
    session.screen.say(f"peaks are of all processes together; by process, and plots: {report}")
    session.screen.result({"report": str(report)})
    return True


def _names(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """A name for each file's evaluation: its own, numbered where it comes again."""
    seen: Counter[str] = Counter()
    named = []
    for file in files:
        seen[file.stem] += 1
        named.append((file.stem if seen[file.stem] == 1 else f"{file.stem}-{seen[file.stem]}", file))
    return named


def _row(one: Evaluation) -> tuple[str, ...]:
    peak = one.peak_of_all
    seconds = "" if one.seconds is None else f"{one.seconds:.1f}"
    return one.name, f"{one.contacts:,}", seconds, f"{peak.cpu:.0f} %", f"{peak.memory:.0f} MB", str(one.end.charged)


async def _campaign(session: Session, name: str, file: Path, period: float, margin: float) -> Evaluation:
    api, screen, workspace_id = session.api, session.screen, session.settings.workspace
    made = await create(api, screen, file, f"evaluation of {file.name}", MESSAGE, workspace_id)
    bulksms_id = made["bulksms_id"]
    await top_up_if_needed(api, screen, workspace_id, Decimal(made["total_cost"]))
    sampler = Sampler(Processes(session.settings), lambda: _look(api, bulksms_id), period)
    async with watching_credit(api, workspace_id) as watched, _sampling(sampler, margin):
        await Follower(api, screen, watched).follow(await api.run(bulksms_id))
    return Evaluation(name, bulksms_id, sampler.samples)


@asynccontextmanager
async def _sampling(sampler: Sampler, margin: float) -> AsyncIterator[None]:
    """Samples are taken meanwhile, and for `margin` seconds before and after: at least one in each."""
    task = asyncio.create_task(sampler.run())
    try:
        await _wait_for_sample(sampler, margin)
        yield
        await _wait_for_sample(sampler, margin)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _wait_for_sample(sampler: Sampler, margin: float) -> None:
    """Wait `margin` seconds, and until a sample was taken in this time; no longer than 30 s if the system is away."""
    with suppress(TimeoutError):
        await asyncio.gather(asyncio.sleep(margin), asyncio.wait_for(sampler.next_sample(), _SAMPLE_TIMEOUT))


async def _look(api: Api, bulksms_id: str) -> Progress:
    campaign = await api.campaign(bulksms_id)
    credit = await api.credit(campaign["workspace_id"])
    return Progress(
        contacts=campaign["contacts"],
        charged=Decimal(campaign["charged"]),
        credit=Decimal(credit["credit"]),
        reserved=Decimal(credit["reserved"]),
        started_at=_moment(campaign["started_at"]),
        completed_at=_moment(campaign["completed_at"]),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


async def evaluate_live(session: Session, *, bulksms_id: str, seconds: int) -> bool:
    """Have the sales worker sample the machine that it runs on for some seconds, while a campaign is under way."""
    jobs = JobQueue.connect(session.settings.redis_url)
    try:
        asked = jobs.call(SALES_QUEUE, GENERATE_SYSTEM_STAT, bulksms_id, seconds, timeout=seconds + _FINISHING)
        report = await _with_bar(session, asyncio.ensure_future(asked), seconds)
    except JobsUnavailableError as error:
        raise ClientError(
            str(error), jobs.address, f"`{COMMAND} up` starts everything; REDIS_URL says where Redis is"
        ) from None
    finally:
        await jobs.close()
    if report is None:
        raise ClientError(
            f"the sales worker could see nothing of campaign {bulksms_id}",
            session.api.salesapi.url,
            f"`{COMMAND} campaigns` lists what there is; the worker's log says what it missed",
        )
    session.screen.say(f"the report is {report}; samples and the plot are beside it, on the worker's machine")
    session.screen.result({"report": report})
    return True


async def _with_bar(session: Session, work: "asyncio.Future[str | None]", seconds: int) -> str | None:
    begun = monotonic()
    with ProgressBar(console=session.screen.console, transient=True, disable=not session.screen.live) as bar:
        task = bar.add_task("sampling", total=seconds)
        while not work.done():
            await asyncio.wait((work,), timeout=0.2)
            bar.update(task, completed=min(seconds, monotonic() - begun))
    return work.result()
