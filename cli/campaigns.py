"""Commands on campaigns: list, show, pause, resume, cancel, delete, retry, export."""

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

_WIDE = 110  # columns of a terminal with room for the whole table


async def campaigns(session: Session, *, workspace: str | None, limit: int) -> bool:
    """List the newest campaigns of a workspace."""
    listed = await session.api.campaigns(await session.workspace(workspace), limit)
    columns: tuple[str, ...] = ("id", "created", "status", "contacts", "delivered", "charged", "name")
    if session.screen.console.width < _WIDE:
        columns = ("id", "created", "status", "contacts", "name")
    rows = [[_cell(campaign, column) for column in columns] for campaign in listed]
    session.screen.show(display.table_of(rows, *columns, right=("contacts", "delivered", "charged")))
    session.screen.result(listed)
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
    """Show one campaign, and the first rejected rows of its file."""
    details = await session.api.campaign(bulksms_id)
    rejected = await session.api.rejected(bulksms_id)
    times = {name: local(details[f"{name}_at"]) for name in ("created", "started", "completed")}
    facts = {
        "campaign": details["bulksms_id"],
        "name": details["name"],
        "workspace": details["workspace_id"],
        "status": display.status_text(details),
        "message": repr(details["message"]),
        "segments": f"at most {details['segments']} of {details['encoding']} each",
        "contacts": ", ".join(f"{details[name]:,} {name}" for name in ("accepted", "rejected", "duplicate")),
        **{status: f"{details['contacts'][status]:,}" for status in STATUSES},
        "cost": f"{details['charged']} credits charged of {details['total_cost']}",
        "retry of": details["retry_of"],
        **{name: moment for name, moment in times.items() if moment},
    }
    for name, fact in facts.items():
        if fact is not None:
            session.screen.say(f"{name:<12} {fact}")
    show_rejected(session.screen, rejected, details["rejected"] + details["duplicate"])
    session.screen.result({**details, "rejected_rows": rejected})
    return True


async def control(session: Session, *, bulksms_id: str, action: str) -> bool:
    """Pause, resume or cancel a campaign."""
    return _show_status(session, await session.api.control(bulksms_id, action))


async def delete(session: Session, *, bulksms_id: str) -> bool:
    """Delete a campaign that was not run or has ended."""
    await session.api.delete(bulksms_id)
    session.screen.say(f"campaign {bulksms_id} is deleted; what it was charged stays in the books")
    session.screen.result({"bulksms_id": bulksms_id, "deleted": True})
    return True


async def retry(session: Session, *, bulksms_id: str) -> bool:
    """Create a campaign of the contacts that one failed to reach."""
    created = await session.api.retry_failed(bulksms_id)
    _show_status(session, created)
    session.screen.say(f"`{COMMAND} run {created['bulksms_id']}` sends it, for {created['total_cost']} credits")
    return True


def _show_status(session: Session, campaign: Campaign) -> bool:
    session.screen.say(
        f"campaign {campaign['bulksms_id']} is {display.status_text(campaign)}: "
        f"{display.final(campaign):,} of {campaign['accepted']:,} messages are final"
    )
    session.screen.result(campaign)
    return True


async def export(session: Session, *, bulksms_id: str, output: str | None) -> bool:
    """Save every contact with its status, as CSV; `-` is stdout. A file is written completely, or not at all."""
    contacts = (await session.api.campaign(bulksms_id))["accepted"]
    if output == "-":
        await _write(session, session.api.export(bulksms_id), sys.stdout.buffer, contacts)
        return True
    path = Path(output or f"{bulksms_id}.csv")
    partial_file = path.with_name(f"{path.name}.part")
    try:
        with partial_file.open("wb") as file:
            size = await _write(session, session.api.export(bulksms_id), file, contacts)
        partial_file.replace(path)
    except OSError as error:
        raise ClientError(
            f"the file cannot be written: {error.strerror}", str(path), "give another one with -o"
        ) from None
    finally:
        partial_file.unlink(missing_ok=True)
    session.screen.say(f"{contacts:,} contacts in {path}")
    session.screen.result({"file": str(path), "contacts": contacts, "bytes": size})
    return True


async def _write(session: Session, chunks: AsyncIterator[bytes], file: IO[bytes], contacts: int) -> int:
    """Write the chunks, with a progress bar; return the number of bytes."""
    size = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # On stderr, since the export may go to stdout.
    with Progress(*columns, console=session.screen.errors, transient=True, disable=not session.screen.live) as progress:
        task = progress.add_task("exporting", total=contacts)
        async for chunk in chunks:
            size += file.write(chunk)
            progress.update(task, advance=chunk.count(b"\n"))
    return size
