"""Watching a campaign to its end, together with its workspace's credit."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from time import monotonic

from rich.live import Live

from cli import display
from cli.api import Api, Campaign, Credit
from cli.display import Screen, Throughput
from cli.errors import ClientError, NotAnsweringError, RefusedError
from cli.session import Session
from common.settings import COMMAND

_POLL_INTERVAL = 0.2  # seconds
_LINE_INTERVAL = 0.6  # seconds between two lines, if the output is not a terminal
_FIRST_UPDATE_TIMEOUT = 2.0  # seconds to wait for the first update of the credit
_UNAVAILABLE_TIMEOUT = 60.0  # seconds in which an unavailable service must answer again


async def watch(session: Session, *, bulksms_id: str) -> bool:
    """Show a campaign until it has ended, in JSON with a line for each change. True if it was completed."""
    campaign = await follow(session, bulksms_id, session.screen.result)
    sum_up(session.screen, campaign)
    return bool(campaign["status"] == "completed")


def _ignore(campaign: Campaign) -> None:
    """Ignore a change."""


async def follow(session: Session, bulksms_id: str, changed: Callable[[Campaign], None] = _ignore) -> Campaign:
    """Show the campaign until it has ended, and return it; `changed` is called after each change.

    Ctrl-C stops watching, not the campaign.
    """
    first = await session.api.campaign(bulksms_id)
    try:
        async with watching_credit(session.api, first["workspace_id"]) as credit:
            return await Follower(session.api, session.screen, credit, changed).follow(first)
    except asyncio.CancelledError:
        session.screen.say(f"stopped watching; the campaign continues, `{COMMAND} watch {bulksms_id}` shows it again")
        raise


class CreditWatch:
    """The latest credit from the WebSocket, and the number of updates."""

    def __init__(self) -> None:
        self.latest: Credit = {}
        self.updates = 0
        self.started = asyncio.Event()


@asynccontextmanager
async def watching_credit(api: Api, workspace_id: str) -> AsyncIterator[CreditWatch]:
    """Keep a CreditWatch up to date during the block; errors of webapi are ignored, since the campaign matters more."""
    credit = CreditWatch()

    async def listen() -> None:
        with suppress(ClientError):
            async for update in api.credit_updates(workspace_id):
                credit.latest = update
                credit.updates += 1
                credit.started.set()

    task = asyncio.create_task(listen())
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(credit.started.wait(), _FIRST_UPDATE_TIMEOUT)
        yield credit
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Follower:
    """Polls a campaign and shows its progress."""

    def __init__(
        self, api: Api, screen: Screen, credit: CreditWatch, changed: Callable[[Campaign], None] = _ignore
    ) -> None:
        self._api = api
        self._screen = screen
        self._credit = credit
        self._changed = changed
        self._throughput = Throughput()
        self._shown: tuple[object, ...] = ()
        self._next_line = 0.0

    async def follow(self, campaign: Campaign) -> Campaign:
        """Show the campaign until it has ended. Raises ClientError if salesapi does not answer for a minute."""
        self._changed(campaign)
        live = Live(console=self._screen.console, refresh_per_second=10, transient=True) if self._screen.live else None
        with live or nullcontext():
            while True:
                self._throughput.add(display.final(campaign))
                self._show(campaign, live)
                if campaign["completed_at"] is not None:
                    return campaign
                await asyncio.sleep(_POLL_INTERVAL)
                latest = await self._poll(campaign["bulksms_id"])
                if latest != campaign:
                    self._changed(latest)
                campaign = latest

    def _show(self, campaign: Campaign, live: Live | None) -> None:
        rate, credit = self._throughput.per_second, self._credit.latest
        if live:
            live.update(display.progress_table(campaign, credit, rate))
            return
        shown = (campaign["contacts"], campaign["status"], credit.get("credit"))
        ended = campaign["completed_at"] is not None
        if shown != self._shown and (ended or monotonic() >= self._next_line):
            if self._shown and self._shown[1] != campaign["status"] and not ended:
                self._screen.say(display.status_text(campaign))
            self._screen.say(display.progress_line(campaign, credit, rate))
            self._shown, self._next_line = shown, monotonic() + _LINE_INTERVAL

    async def _poll(self, bulksms_id: str) -> Campaign:
        """Get the campaign; retry while salesapi is unavailable or busy."""
        deadline = monotonic() + _UNAVAILABLE_TIMEOUT
        waited = False
        while True:
            try:
                return await self._api.campaign(bulksms_id)
            except (NotAnsweringError, RefusedError) as error:
                is_temporary = isinstance(error, NotAnsweringError) or error.status in (429, 503)
                if not is_temporary or monotonic() > deadline:
                    raise
                if not waited:
                    self._screen.say(f"{error.problem}; retrying for {_UNAVAILABLE_TIMEOUT:g} s")
                    waited = True
                await asyncio.sleep(error.retry_after if isinstance(error, RefusedError) else 1)


def sum_up(screen: Screen, campaign: Campaign) -> None:
    """Show the totals of a campaign that has ended."""
    screen.show(display.totals(campaign))
    took = f" in {display.seconds(campaign):.1f} s" if campaign["started_at"] else ""
    screen.say(f"campaign {campaign['bulksms_id']}: {display.status_text(campaign)}{took}")
    screen.say(
        f"{display.final(campaign):,} messages, charged {campaign['charged']} of {campaign['total_cost']} credits"
    )
