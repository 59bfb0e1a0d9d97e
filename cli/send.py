"""Sending: a CSV becomes a campaign, its owner agrees to what it costs, it runs, and is watched to its end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from rich.progress import wrap_file

from cli.api import Api
from cli.display import Screen, local, some
from cli.errors import ClientError, RefusedError
from cli.session import Session
from cli.watch import follow, sum_up
from common.settings import COMMAND

_SHOWN = 10  # rejected rows


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
    """Create, show, ask, run, watch. True if the campaign was completed, or started where it is not watched."""
    api, screen = session.api, session.screen
    workspace_id = await session.workspace(workspace)
    made = await create(api, screen, file, name or file.stem, message, workspace_id)
    available = Decimal((await api.credit(workspace_id))["available"])
    screen.say(
        f"at most {some(made['segments'], 'segment')} of {made['encoding']} each; "
        f"{available} credits available, {available - Decimal(made['total_cost'])} afterwards"
    )
    if not yes and not screen.confirm("Send it?"):
        screen.say(f"not sent; `{COMMAND} run {made['bulksms_id']}` sends it")
        return False
    return await run(
        session, bulksms_id=made["bulksms_id"], schedule=schedule, watch=watch, rejected_rows=made["rejected_rows"]
    )


async def run(session: Session, *, bulksms_id: str, schedule: datetime | None, watch: bool | None, **more: Any) -> bool:
    """Start a campaign, now or at a time, and watch it, if not told otherwise and it does start now.

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
    """Upload the contacts of a CSV, and say what was taken of it and what not."""
    fields = {"name": name, "message": message, "workspace_id": workspace_id}
    try:
        with _uploading(screen, file) as contacts:
            made = await api.create(contacts, file.name, **fields)
    except RefusedError as error:
        show_rejected(screen, error.problem.get("rejected_rows", []))
        raise
    except OSError as error:
        raise ClientError(f"the file cannot be read: {os.strerror(error.errno or 0)}", str(file)) from None
    screen.say(
        f"created campaign {made['bulksms_id']}: {made['accepted']} contacts accepted, "
        f"{made['rejected']} rejected, {made['duplicate']} duplicate; costs {made['total_cost']} credits"
    )
    show_rejected(screen, made["rejected_rows"], made["rejected"] + made["duplicate"])
    return made


@contextmanager
def _uploading(screen: Screen, file: Path) -> Iterator[BinaryIO]:
    """The file, open, with a bar on the screen for what has been read of it."""
    size = file.stat().st_size
    with (
        file.open("rb") as raw,
        wrap_file(
            raw, size, description="uploading", console=screen.console, transient=True, disable=not screen.live
        ) as contacts,
    ):
        yield contacts


def show_rejected(screen: Screen, rows: list[dict[str, Any]], count: int = 0) -> None:
    """The first rows that were not taken, and why; there are `count` in all."""
    for row in rows[:_SHOWN]:
        screen.say(f"  line {row['line']}: {row['value']!r}: {row['reason']}")
    if count > _SHOWN:
        screen.say(f"  and {count - _SHOWN:,} more")
