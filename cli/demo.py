"""The demo: a client of the running system that sends one campaign, watches it and its credit, and checks the books."""

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
_FEW = 20  # contacts that are shown one by one
_SETTLING = 30.0  # seconds for the last charge to come through


async def demo(session: Session, *, contacts: Path) -> bool:
    """Send one campaign, show it, sum it up. Raises ClientError where the system did not do what it should."""
    api, screen, workspace_id = session.api, session.screen, session.settings.workspace
    async with watching_credit(api, workspace_id) as watched:
        made = await create(api, screen, contacts, f"demo of {contacts.name}", MESSAGE, workspace_id)
        await top_up_if_needed(api, screen, workspace_id, Decimal(made["total_cost"]))
        before = Decimal((await api.credit(workspace_id))["credit"])
        started = monotonic()
        begun = await api.run(made["bulksms_id"])
        campaign = await Follower(api, screen, watched).follow(begun)
        credit = await _settled(api, workspace_id, before - Decimal(campaign["charged"]), watched)
        seconds = monotonic() - started
        if campaign["accepted"] <= _FEW:
            await _show_contacts(api, screen, made["bulksms_id"])
        _sum_up(screen, campaign, before, credit, seconds)
        screen.say(f"the WebSocket told {watched.ticks} times of the credit")
        if display.final(campaign) != campaign["accepted"]:
            raise ClientError(f"not every contact is final: {campaign['contacts']}", api.salesapi.url)
        screen.say("the books balance: what is gone is what was charged, and nothing stays reserved")
    return True


async def top_up_if_needed(api: Api, screen: Screen, workspace_id: str, cost: Decimal) -> None:
    """Add what is missing to pay for `cost`."""
    available = Decimal((await api.credit(workspace_id))["available"])
    if available < cost:
        await api.top_up(workspace_id, str(cost - available))
        screen.say(f"only {available} credits were available: topped up {cost - available}")


async def _settled(api: Api, workspace_id: str, expected: Decimal, watched: CreditWatch) -> Credit:
    """The credit once the last charge and release are through the outbox; on the WebSocket as in the database."""
    deadline = monotonic() + _SETTLING
    while True:
        now = await api.credit(workspace_id)
        as_it_must_be = Decimal(now["credit"]) == expected and not Decimal(now["reserved"])
        if as_it_must_be and watched.latest.get("version") == now["version"]:
            return now
        if monotonic() > deadline:
            raise ClientError(
                f"the books do not balance: expected {expected} credits, none reserved, there are {now}", api.webapi.url
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
    screen.show(display.table_of(rows, *columns, title="Where each contact ended"))


def _sum_up(screen: Screen, campaign: Campaign, before: Decimal, credit: Credit, seconds: float) -> None:
    accepted = campaign["accepted"]
    screen.show(display.totals(campaign))
    screen.say(f"{accepted} messages in {seconds:.1f} s, {accepted / seconds:,.0f} messages/s")
    screen.say(f"credit before {before}, charged {campaign['charged']}, credit now {credit['credit']}")
