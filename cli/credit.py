"""Commands on a workspace's credit: show, watch, top up."""

from datetime import datetime
from decimal import Decimal

from cli.api import Credit
from cli.session import Session


async def credit(session: Session, *, workspace: str | None, watch: bool) -> bool:
    """Show the credit; with `watch` also every change, from the WebSocket, until Ctrl-C."""
    workspace_id = await session.workspace(workspace)
    now = await session.api.credit(workspace_id)
    if not watch:
        session.screen.say(f"{now['name']} ({workspace_id}): {_amounts(now)}")
        session.screen.result(now)
        return True
    session.screen.say(f"{now['name']} ({workspace_id}); Ctrl-C stops watching")
    before = Decimal(now["credit"])
    async for now in session.api.credit_updates(workspace_id):
        change = Decimal(now["credit"]) - before
        before += change
        session.screen.say(
            f"{datetime.now().astimezone():%H:%M:%S}  {_amounts(now)}{f'  ({change:+})' if change else ''}"
        )
        session.screen.result(now)
    return True


async def top_up(session: Session, *, amount: str, workspace: str | None, reference: str | None) -> bool:
    """Add credits to a workspace."""
    now = await session.api.top_up(await session.workspace(workspace), amount, reference)
    session.screen.say(f"added {amount} credits: {_amounts(now)}")
    session.screen.result(now)
    return True


def _amounts(now: Credit) -> str:
    return ", ".join(f"{name} {now[name]}" for name in ("credit", "reserved", "available") if name in now)
