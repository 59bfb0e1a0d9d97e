"""Watching a campaign to its end, and its workspace's credit meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from time import monotonic

from rich.live import Live

from cli import display
from cli.api import Api, Campaign, Credit
from cli.display import Pace, Screen
from cli.errors import ClientError, NotAnsweringError, RefusedError
from cli.session import Session
from common.settings import COMMAND

_PERIOD = 0.2  # seconds between two looks
_LINES = 0.6  # seconds between two lines, where the screen is none
_FIRST = 2.0  # seconds to wait for the first news of credit
_PATIENCE = 60.0  # seconds for a service to come back


async def watch(session: Session, *, bulksms_id: str) -> bool:
    """Show a campaign until it has ended; with JSON one object for each change. True if it was completed."""
    campaign = await follow(session, bulksms_id, session.screen.result)
    sum_up(session.screen, campaign)
    return bool(campaign["status"] == "completed")


def _nobody(campaign: Campaign) -> None:
    """Who is told of changes where nobody is."""


async def follow(session: Session, bulksms_id: str, changed: Callable[[Campaign], None] = _nobody) -> Campaign:
    """Show the campaign until it has ended, and return it; `changed` is told of each change.

    Ctrl-C ends the watching only, and says so.
    """
    first = await session.api.campaign(bulksms_id)
    try:
        async with watching_credit(session.api, first["workspace_id"]) as credit:
            return await Follower(session.api, session.screen, credit, changed).follow(first)
    except asyncio.CancelledError:
        session.screen.say(f"no longer watched; the campaign goes on, `{COMMAND} watch {bulksms_id}` shows it again")
        raise


class CreditWatch:
    """The latest credit that the WebSocket has told of, and how often it did."""

    def __init__(self) -> None:
        self.latest: Credit = {}
        self.ticks = 0
        self.begun = asyncio.Event()


@asynccontextmanager
async def watching_credit(api: Api, workspace_id: str) -> AsyncIterator[CreditWatch]:
    """Keep a CreditWatch up to date; should webapi refuse, it stays as it is: the campaign is what matters here."""
    credit = CreditWatch()

    async def listen() -> None:
        with suppress(ClientError):
            async for news in api.credit_news(workspace_id):
                credit.latest = news
                credit.ticks += 1
                credit.begun.set()

    task = asyncio.create_task(listen())
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(credit.begun.wait(), _FIRST)
        yield credit
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Follower:
    """Looks at a campaign again and again, and shows it."""

    def __init__(
        self, api: Api, screen: Screen, credit: CreditWatch, changed: Callable[[Campaign], None] = _nobody
    ) -> None:
        self._api = api
        self._screen = screen
        self._credit = credit
        self._changed = changed
        self._pace = Pace()
        self._shown: tuple[object, ...] = ()
        self._next_line = 0.0

    async def follow(self, campaign: Campaign) -> Campaign:
        """Show it until nothing more will happen to it. Raises what the services answer for a minute or longer."""
        self._changed(campaign)
        live = Live(console=self._screen.console, refresh_per_second=10, transient=True) if self._screen.live else None
        with live or nullcontext():
            while True:
                self._pace.add(display.final(campaign))
                self._show(campaign, live)
                if campaign["completed_at"] is not None:
                    return campaign
                await asyncio.sleep(_PERIOD)
                latest = await self._look(campaign["bulksms_id"])
                if latest != campaign:
                    self._changed(latest)
                campaign = latest

    def _show(self, campaign: Campaign, live: Live | None) -> None:
        pace, credit = self._pace.per_second, self._credit.latest
        if live:
            live.update(display.picture(campaign, credit, pace))
            return
        seen = (campaign["contacts"], campaign["status"], credit.get("credit"))
        ended = campaign["completed_at"] is not None
        if seen != self._shown and (ended or monotonic() >= self._next_line):
            if self._shown and self._shown[1] != campaign["status"] and not ended:
                self._screen.say(display.standing(campaign))
            self._screen.say(display.line(campaign, credit, pace))
            self._shown, self._next_line = seen, monotonic() + _LINES

    async def _look(self, bulksms_id: str) -> Campaign:
        """The campaign now; a service that is away or busy is asked again."""
        deadline = monotonic() + _PATIENCE
        waited = False
        while True:
            try:
                return await self._api.campaign(bulksms_id)
            except (NotAnsweringError, RefusedError) as error:
                passing = isinstance(error, NotAnsweringError) or error.status in (429, 503)
                if not passing or monotonic() > deadline:
                    raise
                if not waited:
                    self._screen.say(f"{error.what}; asking again for {_PATIENCE:g} s")
                    waited = True
                await asyncio.sleep(error.retry_after if isinstance(error, RefusedError) else 1)


def sum_up(screen: Screen, campaign: Campaign) -> None:
    """What became of a campaign that has ended."""
    screen.show(display.totals(campaign))
    took = f" in {display.seconds(campaign):.1f} s" if campaign["started_at"] else ""
    screen.say(f"campaign {campaign['bulksms_id']}: {display.standing(campaign)}{took}")
    screen.say(
        f"{display.final(campaign):,} messages, charged {campaign['charged']} of {campaign['total_cost']} credits"
    )
