"""Campaigns read, paused, resumed, cancelled, retried, and their results taken home."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cli import display
from cli.api import Campaign
from cli.display import STATUSES, local
from cli.errors import ClientError
from cli.send import show_rejected
from cli.session import Session
from common.settings import COMMAND

_WIDE = 110  # columns of a terminal that has room for all


async def campaigns(session: Session, *, workspace: str | None, limit: int) -> bool:
    """The newest campaigns of a workspace."""
    found = await session.api.campaigns(await session.workspace(workspace), limit)
    columns: tuple[str, ...] = ("id", "created", "status", "contacts", "delivered", "charged", "name")
    if session.screen.console.width < _WIDE:
        columns = ("id", "created", "status", "contacts", "name")
    rows = [[_cell(one, column) for column in columns] for one in found]
    session.screen.show(display.table_of(rows, *columns, right=("contacts", "delivered", "charged")))
    session.screen.result(found)
    return True


def _cell(campaign: Campaign, column: str) -> str:
    match column:
        case "id":
            return str(campaign["bulksms_id"])
        case "created":
            return local(campaign["created_at"])[5:-3]
        case "contacts":
            return f"{campaign['accepted']:,}"
        case "delivered":
            return f"{campaign['contacts']['delivered']:,}"
    return str(campaign[column])


async def campaign(session: Session, *, bulksms_id: str) -> bool:
    """All there is to know of one campaign; the first rows that were not taken of its file, too."""
    found = await session.api.campaign(bulksms_id)
    rejected = await session.api.rejected(bulksms_id)
    times = {name: local(found[f"{name}_at"]) for name in ("created", "started", "completed")}
    facts = {
        "campaign": found["bulksms_id"],
        "name": found["name"],
        "workspace": found["workspace_id"],
        "status": display.standing(found),
        "message": repr(found["message"]),
        "segments": f"at most {found['segments']} of {found['encoding']} each",
        "contacts": f"{found['accepted']:,} accepted, {found['rejected']:,} rejected, {found['duplicate']:,} duplicate",
        **{status: f"{found['contacts'][status]:,}" for status in STATUSES},
        "cost": f"{found['charged']} credits charged of {found['total_cost']}",
        "retry of": found["retry_of"],
        **{name: moment for name, moment in times.items() if moment},
    }
    for name, fact in facts.items():
        if fact is not None:
            session.screen.say(f"{name:<12} {fact}")
    show_rejected(session.screen, rejected, found["rejected"] + found["duplicate"])
    session.screen.result({**found, "rejected_rows": rejected})
    return True


async def control(session: Session, *, bulksms_id: str, what: str) -> bool:
    """Pause, resume or cancel a campaign."""
    return _told(session, await session.api.control(bulksms_id, what))


async def retry(session: Session, *, bulksms_id: str) -> bool:
    """A new campaign of the contacts that one has failed to reach."""
    made = await session.api.retry_failed(bulksms_id)
    _told(session, made)
    session.screen.say(f"`{COMMAND} run {made['bulksms_id']}` sends it, for {made['total_cost']} credits")
    return True


def _told(session: Session, campaign: Campaign) -> bool:
    session.screen.say(
        f"campaign {campaign['bulksms_id']} is {display.standing(campaign)}: "
        f"{display.final(campaign):,} of {campaign['accepted']:,} messages are final"
    )
    session.screen.result(campaign)
    return True


async def export(session: Session, *, bulksms_id: str, output: str | None) -> bool:
    """Save every contact with what became of it, as CSV; `-` is stdout. A file is there complete, or not at all."""
    contacts = (await session.api.campaign(bulksms_id))["accepted"]
    if output == "-":
        await _write(session, session.api.export(bulksms_id), sys.stdout.buffer, contacts)
        return True
    path = Path(output or f"{bulksms_id}.csv")
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            size = await _write(session, session.api.export(bulksms_id), file, contacts)
        part.replace(path)
    except OSError as error:
        raise ClientError(f"the file cannot be written: {error.strerror}", str(path), "-o names another") from None
    finally:
        part.unlink(missing_ok=True)
    session.screen.say(f"{contacts:,} contacts in {path}")
    session.screen.result({"file": str(path), "contacts": contacts, "bytes": size})
    return True


async def _write(session: Session, pieces: AsyncIterator[bytes], file: IO[bytes], contacts: int) -> int:
    """Write the pieces, with a progress bar; returns how many bytes."""
    size = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # On stderr: what is exported may go to stdout.
    with Progress(*columns, console=session.screen.errors, transient=True, disable=not session.screen.live) as progress:
        task = progress.add_task("exporting", total=contacts)
        async for piece in pieces:
            size += file.write(piece)
            progress.update(task, advance=piece.count(b"\n"))
    return size
