"""What people see of a campaign: live on a terminal, in lines elsewhere, and as JSON for scripts."""

import json
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from time import monotonic
from typing import Any

import click
from rich.console import Console, JustifyMethod
from rich.progress_bar import ProgressBar
from rich.table import Table

from cli.api import Campaign, Credit
from cli.errors import ClientError
from common.settings import COMMAND

STATUSES = ("queued", "sent", "delivered", "undelivered", "failed")
_FINAL = ("delivered", "undelivered", "failed")
_COLOURS = {"queued": "white", "sent": "yellow", "delivered": "green", "undelivered": "magenta", "failed": "red"}
_PACE_OVER = 5.0  # seconds
_WIDTH = 160  # columns where there is no terminal to ask


class Screen:
    """Where a command writes: results for people, or with `as_json` JSON on stdout and everything else on stderr."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        terminal = (sys.stderr if as_json else sys.stdout).isatty()
        self.console = Console(stderr=as_json, width=None if terminal else _WIDTH)
        self.errors = Console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether what is written can be replaced."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """A line for people."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        """A table for people."""
        self.console.print(table)

    def result(self, value: Any) -> None:
        """A result for scripts, one line of JSON; nothing where people read."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def show_error(self, error: ClientError) -> None:
        """What, where and how, on stderr."""
        lines = [error.what, f"  where: {error.where}"] + ([f"  how:   {error.how}"] if error.how else [])
        self.errors.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)

    def confirm(self, question: str) -> bool:
        """Ask; nobody to ask is a no, said with what to do about it."""
        if not sys.stdin.isatty():
            self.say(f"{question} There is nobody to ask here: --yes says so")
            return False
        with _interruptible():
            try:
                return click.confirm(question, err=True)
            except click.Abort:  # Ctrl-C
                return False


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends a question at once; asyncio would wait for the loop, which waits for the answer."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Pace:
    """Messages a second that became final, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        """`count` messages are final now."""
        now = monotonic()
        if self._seen and self._seen[0][1] == count:
            self._seen.clear()  # nothing has come yet: the time until something does is no pace
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] < now - _PACE_OVER:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        (begun, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - begun) if now > begun else 0.0


def final(campaign: Campaign) -> int:
    """How many contacts nothing more will happen to."""
    return sum(int(campaign["contacts"][status]) for status in _FINAL)


def picture(campaign: Campaign, credit: Credit, pace: float) -> Table:
    """The campaign for a live terminal: a bar for each status, the pace, the time left, the credit."""
    table = Table.grid(padding=(0, 2))
    for status in STATUSES:
        count = campaign["contacts"][status]
        colour = _COLOURS[status]
        bar = ProgressBar(campaign["accepted"], count, width=40, complete_style=colour, finished_style=colour)
        table.add_row(status, bar, f"{count:,}")
    left = time_left(campaign, pace)
    table.add_row("messages/s", f"{rate(pace)}{f', {left} left' if left else ''}", "")
    table.add_row("credit", f"{credit.get('credit', '?')} ({credit.get('reserved', '?')} reserved)", "")
    table.add_row("campaign", standing(campaign), "")
    return table


def line(campaign: Campaign, credit: Credit, pace: float) -> str:
    """The same in one line."""
    counts = "  ".join(f"{status} {campaign['contacts'][status]}" for status in STATUSES)
    left = time_left(campaign, pace)
    return f"{counts}  credit {credit.get('credit', '?')}  {rate(pace)} messages/s{f'  {left} left' if left else ''}"


def rate(pace: float) -> str:
    """Messages a second, with a decimal where it counts."""
    return f"{pace:,.0f}" if pace >= 10 or not pace else f"{pace:.1f}"


def standing(campaign: Campaign) -> str:
    """The campaign's status, and what is behind it."""
    status = str(campaign["status"])
    if status == "paused":
        reason = campaign["pause_reason"] or "on request"
        return f"paused: {reason}; `{COMMAND} resume {campaign['bulksms_id']}` goes on"
    if status == "scheduled":
        return f"scheduled for {local(campaign['scheduled_for'])}"
    if status == "cancelled":
        return f"cancelled, {campaign['unsent']:,} contacts will not be sent to"
    return status


def time_left(campaign: Campaign, pace: float) -> str:
    """How long the rest takes at this pace, such as 1:05; empty where that cannot be told."""
    rest = campaign["accepted"] - final(campaign)
    if pace < 0.1 or not rest or campaign["status"] != "inprogress":
        return ""
    minutes, seconds = divmod(round(rest / pace), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def totals(campaign: Campaign) -> Table:
    """How many contacts ended in which status."""
    table = Table(title="In all", title_justify="left")
    for status in STATUSES:
        table.add_column(status, justify="right")
    table.add_row(*(f"{campaign['contacts'][status]:,}" for status in STATUSES))
    return table


def table_of(rows: Sequence[Sequence[str]], *columns: str, right: Sequence[str] = (), title: str = "") -> Table:
    """A table of texts; the columns in `right` are numbers, the last one may be long."""
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        table.add_column(column, justify=justify, no_wrap=column != columns[-1])  # the last one gives way
    for row in rows:
        table.add_row(*row)
    return table


def some(count: int, thing: str) -> str:
    """Such as 2 segments."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def local(moment: str | None) -> str:
    """A time of the services in this machine's zone, to the second."""
    return "" if moment is None else datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def seconds(campaign: Campaign) -> float:
    """From the campaign's start to its end."""
    begun, ended = (datetime.fromisoformat(campaign[name]) for name in ("started_at", "completed_at"))
    return (ended - begun).total_seconds()
