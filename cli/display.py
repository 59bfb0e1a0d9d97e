"""Output of the commands: live on a terminal, in lines elsewhere, and as JSON for scripts."""

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
_RATE_WINDOW = 5.0  # seconds
_WIDTH = 160  # columns if there is no terminal


class Screen:
    """The output of a command: text for people, or with `as_json` JSON on stdout and everything else on stderr."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        terminal = (sys.stderr if as_json else sys.stdout).isatty()
        self.console = Console(stderr=as_json, width=None if terminal else _WIDTH)
        self.errors = Console(stderr=True)

    @property
    def live(self) -> bool:
        """Whether the output is a terminal, on which lines can be replaced."""
        return self.console.is_terminal

    def say(self, text: str) -> None:
        """Print a line for people."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, table: Table) -> None:
        """Print a table for people."""
        self.console.print(table)

    def result(self, value: Any) -> None:
        """Print a result for scripts, as one line of JSON; only with `as_json`."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def show_error(self, error: ClientError) -> None:
        """Print an error on stderr: what is wrong, where, and how to fix it."""
        lines = [error.problem, f"  where: {error.where}"] + ([f"  fix:   {error.remedy}"] if error.remedy else [])
        self.errors.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)

    def confirm(self, question: str) -> bool:
        """Ask for confirmation; without a terminal the answer is no."""
        if not sys.stdin.isatty():
            self.say(f"{question} There is no terminal to ask on: confirm with --yes")
            return False
        with _interruptible():
            try:
                return click.confirm(question, err=True)
            except click.Abort:  # Ctrl-C
                return False


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end a question at once; asyncio's handler would wait for the event loop, which is blocked."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Throughput:
    """Messages per second that became final, over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        """Record that `count` messages are final now."""
        now = monotonic()
        if self._seen and self._seen[0][1] == count:
            self._seen.clear()  # idle time before the first message does not count
        self._seen.append((now, count))
        while len(self._seen) > 2 and self._seen[1][0] < now - _RATE_WINDOW:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        (begun, first), (now, last) = self._seen[0], self._seen[-1]
        return (last - first) / (now - begun) if now > begun else 0.0


def final(campaign: Campaign) -> int:
    """The number of contacts with a final status."""
    return sum(int(campaign["contacts"][status]) for status in _FINAL)


def progress_table(campaign: Campaign, credit: Credit, rate: float) -> Table:
    """The progress for a live terminal: a bar for each status, messages per second, time left, credit."""
    table = Table.grid(padding=(0, 2))
    for status in STATUSES:
        count = campaign["contacts"][status]
        colour = _COLOURS[status]
        bar = ProgressBar(campaign["accepted"], count, width=40, complete_style=colour, finished_style=colour)
        table.add_row(status, bar, f"{count:,}")
    left = time_left(campaign, rate)
    table.add_row("messages/s", f"{formatted_rate(rate)}{f', {left} left' if left else ''}", "")
    table.add_row("credit", f"{credit.get('credit', '?')} ({credit.get('reserved', '?')} reserved)", "")
    table.add_row("campaign", status_text(campaign), "")
    return table


def progress_line(campaign: Campaign, credit: Credit, rate: float) -> str:
    """The same as `progress_table` in one line."""
    counts = "  ".join(f"{status} {campaign['contacts'][status]}" for status in STATUSES)
    left = time_left(campaign, rate)
    speed = f"{formatted_rate(rate)} messages/s{f'  {left} left' if left else ''}"
    return f"{counts}  credit {credit.get('credit', '?')}  {speed}"


def formatted_rate(rate: float) -> str:
    """Messages per second, with a decimal below 10."""
    return f"{rate:,.0f}" if rate >= 10 or not rate else f"{rate:.1f}"


def status_text(campaign: Campaign) -> str:
    """The campaign's status with its reason, time or number of unsent messages."""
    status = str(campaign["status"])
    if status == "paused":
        reason = campaign["pause_reason"] or "on request"
        return f"paused: {reason}; `{COMMAND} resume {campaign['bulksms_id']}` resumes it"
    if status == "scheduled":
        return f"scheduled for {local(campaign['scheduled_for'])}"
    if status == "cancelled":
        return f"cancelled, {campaign['unsent']:,} messages will not be sent"
    return status


def time_left(campaign: Campaign, rate: float) -> str:
    """The remaining time at this rate, such as 1:05; empty if it is unknown."""
    rest = campaign["accepted"] - final(campaign)
    if rate < 0.1 or not rest or campaign["status"] != "inprogress":
        return ""
    minutes, seconds = divmod(round(rest / rate), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def totals(campaign: Campaign) -> Table:
    """The number of contacts in each status."""
    table = Table(title="Total", title_justify="left")
    for status in STATUSES:
        table.add_column(status, justify="right")
    table.add_row(*(f"{campaign['contacts'][status]:,}" for status in STATUSES))
    return table


def table_of(rows: Sequence[Sequence[str]], *columns: str, right: Sequence[str] = (), title: str = "") -> Table:
    """A table of texts; the columns in `right` are right-aligned, the last one may be long."""
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in columns:
        justify: JustifyMethod = "right" if column in right else "left"
        table.add_column(column, justify=justify, no_wrap=column != columns[-1])  # the last one may wrap
    for row in rows:
        table.add_row(*row)
    return table


def plural(count: int, noun: str) -> str:
    """A count with its noun, such as 2 segments."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def local(moment: str | None) -> str:
    """A time (ISO 8601) in this machine's time zone, to the second; empty for None."""
    return "" if moment is None else datetime.fromisoformat(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def seconds(campaign: Campaign) -> float:
    """The duration from the campaign's start to its end."""
    begun, ended = (datetime.fromisoformat(campaign[name]) for name in ("started_at", "completed_at"))
    return (ended - begun).total_seconds()
