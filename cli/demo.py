"""The demo: send one campaign, watch it and the credit, and check that the books balance."""

import asyncio
from decimal import Decimal
from pathlib import Path
from time import monotonic

from cli import display
from cli.api import Api, Campaign, Credit
from cli.display import Screen
from cli.errors import ClientError
from cli.send import create
from cli.session import Session
from cli.watch import CreditWatch, Follower, watching_credit

MESSAGE = "Hei {Contact Name}! The canteen serves salmon soup today."
_MAX_SHOWN = 20  # contacts, shown one by one
_SETTLE_TIMEOUT = 30.0  # seconds until the last charge is in the ledger


async def demo(session: Session, *, contacts: Path) -> bool:
    """Send one campaign, show it and sum it up. Raises ClientError if the result is not as expected."""
    api, screen, workspace_id = session.api, session.screen, session.settings.workspace
    async with watching_credit(api, workspace_id) as watched:
        created = await create(api, screen, contacts, f"demo of {contacts.name}", MESSAGE, workspace_id)
        await top_up_if_needed(api, screen, workspace_id, Decimal(created["total_cost"]))
        before = Decimal((await api.credit(workspace_id))["credit"])
        started_at = monotonic()
        started = await api.run(created["bulksms_id"])
        campaign = await Follower(api, screen, watched).follow(started)
        credit = await _settled(api, workspace_id, before - Decimal(campaign["charged"]), watched)
        seconds = monotonic() - started_at
        if campaign["accepted"] <= _MAX_SHOWN:
            await _show_contacts(api, screen, created["bulksms_id"])
        _sum_up(screen, campaign, before, credit, seconds)
        screen.say(f"the WebSocket sent {watched.updates} updates of the credit")
        if display.final(campaign) != campaign["accepted"]:
            raise ClientError(f"not every contact is final: {campaign['contacts']}", api.salesapi.url)
        screen.say("the books balance: the credit has decreased by exactly the charges, and nothing stays reserved")
    return True


async def top_up_if_needed(api: Api, screen: Screen, workspace_id: str, cost: Decimal) -> None:
    """Add the credits that are missing to pay for `cost`."""
    available = Decimal((await api.credit(workspace_id))["available"])
    if available < cost:
        await api.top_up(workspace_id, str(cost - available))
        screen.say(f"only {available} credits were available: topped up {cost - available}")


async def _settled(api: Api, workspace_id: str, expected: Decimal, watched: CreditWatch) -> Credit:
    """Wait until the last charge and release are settled, and the WebSocket has sent the same credit; return it."""
    deadline = monotonic() + _SETTLE_TIMEOUT
    while True:
        now = await api.credit(workspace_id)
        is_settled = Decimal(now["credit"]) == expected and not Decimal(now["reserved"])
        if is_settled and watched.latest.get("version") == now["version"]:
            return now
        if monotonic() > deadline:
            raise ClientError(
                f"the books do not balance: expected {expected} credits and none reserved, got {now}", api.webapi.url
            )
        await asyncio.sleep(0.05)


async def _show_contacts(api: Api, screen: Screen, bulksms_id: str) -> None:
    rows = [
        (
            contact["contact_number"],
            contact["contact_name"],
            contact["sms_status"],
            "0" if contact["sms_status"] == "failed" else contact["sms_cost"],
            contact["error_code"] or "",
        )
        for contact in await api.contacts(bulksms_id)
    ]
    columns = ("number", "name", "status", "credits", "reason")
    screen.show(display.table_of(rows, *columns, title="Final status of each contact"))


def _sum_up(screen: Screen, campaign: Campaign, before: Decimal, credit: Credit, seconds: float) -> None:
    accepted = campaign["accepted"]
    screen.show(display.totals(campaign))
    screen.say(f"{accepted} messages in {seconds:.1f} s, {accepted / seconds:,.0f} messages/s")
    screen.say(f"credit before {before}, charged {campaign['charged']}, credit now {credit['credit']}")
