"""Commands that send: create a campaign of a CSV, confirm its cost, run it, and watch it to its end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import wrap_file

from cli.api import Api
from cli.display import Screen, local, plural
from cli.errors import ClientError, RefusedError
from cli.session import Session
from cli.watch import follow, sum_up
from common.settings import COMMAND

_MAX_SHOWN = 10  # rejected rows


async def send(
    session: Session,
    *,
    file: Path,
    message: str,
    name: str | None,
    workspace: str | None,
    schedule: datetime | None,
    yes: bool,
    watch: bool | None,
) -> bool:
    """Create, show, confirm, run and watch a campaign. True if it was completed, or started without watching."""
    api, screen = session.api, session.screen
    workspace_id = await session.workspace(workspace)
    created = await create(api, screen, file, name or file.stem, message, workspace_id)
    available = Decimal((await api.credit(workspace_id))["available"])
    screen.say(
        f"at most {plural(created['segments'], 'segment')} of {created['encoding']} each; "
        f"{available} credits available, {available - Decimal(created['total_cost'])} afterwards"
    )
    if not yes and not screen.confirm("Send it?"):
        screen.say(f"not sent; `{COMMAND} run {created['bulksms_id']}` sends it")
        return False
    return await run(
        session,
        bulksms_id=created["bulksms_id"],
        schedule=schedule,
        watch=watch,
        rejected_rows=created["rejected_rows"],
    )


async def run(session: Session, *, bulksms_id: str, schedule: datetime | None, watch: bool | None, **more: Any) -> bool:
    """Start a campaign, now or at a time; by default watch it if it starts now.

    `more`: members to add to the JSON.
    """
    campaign = await session.api.run(bulksms_id, schedule.isoformat() if schedule else None)
    if schedule:
        session.screen.say(f"campaign {bulksms_id} is scheduled for {local(schedule.isoformat())}")
    if watch is False or (watch is None and schedule):
        session.screen.say(f"`{COMMAND} watch {bulksms_id}` shows it")
        session.screen.result({**campaign, **more})
        return True
    campaign = await follow(session, bulksms_id)
    sum_up(session.screen, campaign)
    session.screen.result({**campaign, **more})
    return bool(campaign["status"] == "completed")


async def create(api: Api, screen: Screen, file: Path, name: str, message: str, workspace_id: str) -> dict[str, Any]:
    """Upload the contacts of a CSV, and show what was accepted and rejected."""
    fields = {"name": name, "message": message, "workspace_id": workspace_id}
    try:
        with _uploading(screen, file) as contacts:
            created = await api.create(contacts, file.name, **fields)
    except RefusedError as error:
        show_rejected(screen, error.details.get("rejected_rows", []))
        raise
    except OSError as error:
        raise ClientError(f"the file cannot be read: {os.strerror(error.errno or 0)}", str(file)) from None
    screen.say(
        f"created campaign {created['bulksms_id']}: {created['accepted']} contacts accepted, "
        f"{created['rejected']} rejected, {created['duplicate']} duplicate; costs {created['total_cost']} credits"
    )
    show_rejected(screen, created["rejected_rows"], created["rejected"] + created["duplicate"])
    return created


@contextmanager
def _uploading(screen: Screen, file: Path) -> Iterator[BinaryIO]:
    """Open the file, with a progress bar for the part that has been read."""
    size = file.stat().st_size
    with (
        file.open("rb") as raw,
        wrap_file(
            raw, size, description="uploading", console=screen.console, transient=True, disable=not screen.live
        ) as contacts,
    ):
        yield contacts


def show_rejected(screen: Screen, rows: list[dict[str, Any]], count: int = 0) -> None:
    """Show the first rejected rows and their reasons; `count` is the total."""
    for row in rows[:_MAX_SHOWN]:
        screen.say(f"  line {row['line']}: {row['value']!r}: {row['reason']}")
    if count > _MAX_SHOWN:
        screen.say(f"  and {count - _MAX_SHOWN:,} more")
