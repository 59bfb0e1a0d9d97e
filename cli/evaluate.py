"""Evaluation: run a campaign for each file while CPU and memory of every process are sampled."""

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

_SAMPLE_TIMEOUT = 30.0  # seconds to wait for a sample on a busy machine
_REPORT_TIMEOUT = 60.0  # seconds in which a worker writes its report after sampling


async def evaluate(session: Session, *, files: Sequence[Path], folder: Path, period: float, margin: float) -> bool:
    """Run a campaign for each file, with a sample every `period` seconds, from `margin` seconds before it to after it.

    Writes the samples, plots and a report to `folder`.
    """
    if missing := NAMES - Processes(session.settings).find().keys():
        session.screen.say(f"not found on this machine, and not sampled: {', '.join(sorted(missing))}")
    evaluations = [await _campaign(session, name, file, period, margin) for name, file in _names(files)]
    report = await asyncio.to_thread(write, folder, evaluations)
    columns = ("file", "contacts", "seconds", "peak CPU", "peak memory", "charged")
    session.screen.show(display.table_of([_row(evaluation) for evaluation in evaluations], *columns, right=columns[1:]))
    session.screen.say(f"peaks are totals of all processes; for each process and plots see {report}")
    session.screen.result({"report": str(report)})
    return True


def _names(files: Sequence[Path]) -> list[tuple[str, Path]]:
    """A name for each file's evaluation: that of the file, with a number if it is repeated."""
    seen: Counter[str] = Counter()
    named = []
    for file in files:
        seen[file.stem] += 1
        named.append((file.stem if seen[file.stem] == 1 else f"{file.stem}-{seen[file.stem]}", file))
    return named


def _row(evaluation: Evaluation) -> tuple[str, ...]:
    peak = evaluation.peak_of_all
    seconds = "" if evaluation.seconds is None else f"{evaluation.seconds:.1f}"
    return (
        evaluation.name,
        f"{evaluation.contacts:,}",
        seconds,
        f"{peak.cpu:.0f} %",
        f"{peak.memory:.0f} MB",
        str(evaluation.end.charged),
    )


async def _campaign(session: Session, name: str, file: Path, period: float, margin: float) -> Evaluation:
    api, screen, workspace_id = session.api, session.screen, session.settings.workspace
    created = await create(api, screen, file, f"evaluation of {file.name}", MESSAGE, workspace_id)
    bulksms_id = created["bulksms_id"]
    await top_up_if_needed(api, screen, workspace_id, Decimal(created["total_cost"]))
    sampler = Sampler(Processes(session.settings), lambda: _progress(api, bulksms_id), period)
    async with watching_credit(api, workspace_id) as watched, _sampling(sampler, margin):
        await Follower(api, screen, watched).follow(await api.run(bulksms_id))
    return Evaluation(name, bulksms_id, sampler.samples)


@asynccontextmanager
async def _sampling(sampler: Sampler, margin: float) -> AsyncIterator[None]:
    """Take samples during the block, and for `margin` seconds before and after: at least one in each."""
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
    """Wait `margin` seconds and for a sample taken from now on; at most 30 s if the system does not answer."""
    with suppress(TimeoutError):
        await asyncio.gather(asyncio.sleep(margin), asyncio.wait_for(sampler.next_sample(), _SAMPLE_TIMEOUT))


async def _progress(api: Api, bulksms_id: str) -> Progress:
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
    """Have the sales worker sample its machine for some seconds, while a campaign is running."""
    jobs = JobQueue.connect(session.settings.redis_url)
    try:
        call = jobs.call(SALES_QUEUE, GENERATE_SYSTEM_STAT, bulksms_id, seconds, timeout=seconds + _REPORT_TIMEOUT)
        report = await _with_bar(session, asyncio.ensure_future(call), seconds)
    except JobsUnavailableError as error:
        raise ClientError(
            str(error), jobs.address, f"`{COMMAND} up` starts everything; for another Redis set REDIS_URL"
        ) from None
    finally:
        await jobs.close()
    if report is None:
        raise ClientError(
            f"the sales worker could not sample campaign {bulksms_id}",
            session.api.salesapi.url,
            f"`{COMMAND} campaigns` lists the campaigns; the worker's log has the reason",
        )
    session.screen.say(f"the report is {report}; samples and the plot are beside it, on the worker's machine")
    session.screen.result({"report": report})
    return True


async def _with_bar(session: Session, work: "asyncio.Future[str | None]", seconds: int) -> str | None:
    started_at = monotonic()
    with ProgressBar(console=session.screen.console, transient=True, disable=not session.screen.live) as bar:
        task = bar.add_task("sampling", total=seconds)
        while not work.done():
            await asyncio.wait((work,), timeout=0.2)
            bar.update(task, completed=min(seconds, monotonic() - started_at))
    return work.result()
