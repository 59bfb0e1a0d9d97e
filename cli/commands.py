"""The commands of the client as click knows them. What they do is imported when they run: `--help` must be quick."""

import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from common.settings import SettingsError, load

Work = Callable[..., Awaitable[bool]]

_LONG = 120  # characters of a command in the list of them; longer lines are wrapped
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Sections(click.Group):
    """A group whose help lists its commands in sections; those that are in none come last."""

    def __init__(self, *args: Any, sections: dict[str, tuple[str, ...]] | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sections = sections or {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        placed = {name for names in self._sections.values() for name in names}
        others = tuple(name for name in self.list_commands(ctx) if name not in placed)
        longest = max(map(len, self.commands))
        for title, names in {**self._sections, "Other commands": others}.items():
            commands = [(name, self.commands[name]) for name in names if name in self.commands]
            if commands:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(longest), one.get_short_help_str(_LONG)) for name, one in commands])


class Moment(click.ParamType[datetime]):
    """When a campaign is to run: ISO 8601, in this machine's zone where it names none, or from now on, as +30m."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        moment = self._read(value, param, ctx)
        if moment <= datetime.now(UTC):
            self.fail(f"{value!r} has passed", param, ctx)
        return moment

    def _read(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if delay := re.fullmatch(r"\+(\d{1,6})([smhd])", value):
            return datetime.now().astimezone() + timedelta(**{_UNITS[delay[2]]: int(delay[1])})
        try:
            return datetime.fromisoformat(value).astimezone()
        except ValueError:
            self.fail(f"{value!r} is no time: such as 2030-01-31T09:00, or +30m for in 30 minutes", param, ctx)


as_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for scripts; all else on stderr.")


def do(work: Work, *, as_json: bool) -> int:
    """Do `work` with the services that the settings name; returns the exit code."""
    from cli.session import run, talk

    try:
        settings = load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    return run(lambda screen: talk(settings, screen, work), as_json=as_json)


def talks(load_work: Callable[[], Work]) -> Callable[..., None]:
    """A command that talks to the services; what it does with its parameters is what `load_work` imports."""

    @as_json
    @wraps(load_work)
    def command(*, as_json: bool, **options: Any) -> None:
        given = {name: str(value) if isinstance(value, UUID) else value for name, value in options.items()}
        sys.exit(do(partial(load_work(), **given), as_json=as_json))

    return command


_campaign = click.argument("bulksms_id", type=click.UUID, metavar="ID")
_workspace = click.option("--workspace", type=click.UUID, metavar="ID", help="Another workspace than WORKSPACE.")
_schedule = click.option(
    "--schedule", type=Moment(), help="Run it then: 2030-01-31T09:00, or +30m for in 30 minutes; not now."
)
_watch = click.option(
    "--watch/--no-watch", default=None, help="Watch it to its end, or only start it. One that starts now is watched."
)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--message", required=True, metavar="TEXT", help="What to say; {Contact Name} is a column of FILE.")
@click.option("--name", help="The campaign's name; else that of the file.")
@_workspace
@_schedule
@click.option("--yes", is_flag=True, help="Do not ask before it is sent.")
@_watch
@talks
def send() -> Work:
    """Send a message to everyone in FILE, a CSV.

    Shows what was taken of the file and what it costs, asks, runs it, and watches it to its end. Ends with code 0 only
    if the campaign was completed, or started where it is not watched. Ctrl-C leaves it running.

    \b
    python console.py send 5contacts.csv --message "Hei {Contact Name}, salmon soup today!"
    """
    from cli.send import send

    return send


@click.command()
@_campaign
@_schedule
@_watch
@talks
def run() -> Work:
    """Run a campaign that was created before, now or later."""
    from cli.send import run

    return run


@click.command()
@_campaign
@talks
def watch() -> Work:
    """Watch a campaign to its end; Ctrl-C leaves it running.

    Ends with code 0 only if it was completed. With --json, a line for each change.
    """
    from cli.watch import watch

    return watch


@click.command()
@_workspace
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="How many at most.")
@talks
def campaigns() -> Work:
    """List campaigns, newest first."""
    from cli.campaigns import campaigns

    return campaigns


@click.command()
@_campaign
@talks
def campaign() -> Work:
    """Show one campaign: counters, cost, times, rows not taken."""
    from cli.campaigns import campaign

    return campaign


def _control(name: str, about: str) -> click.Command:
    @click.command(name, help=about)
    @_campaign
    @talks
    def command() -> Work:
        from cli.campaigns import control

        return partial(control, what=name)

    return command


@click.command()
@_campaign
@talks
def retry() -> Work:
    """Make a new campaign of the contacts that one has failed to reach."""
    from cli.campaigns import retry

    return retry


@click.command()
@_campaign
@click.option("-o", "--output", type=click.Path(dir_okay=False, allow_dash=True), help="Else ID.csv; - is stdout.")
@talks
def export() -> Work:
    """Save every contact of a campaign with what became of it, as CSV."""
    from cli.campaigns import export

    return export


@click.command()
@click.argument("workspace", type=click.UUID, required=False, metavar="[WORKSPACE]")
@click.option("--watch", is_flag=True, help="Every change, as it happens; with --json a line for each.")
@talks
def credit() -> Work:
    """Show the credit of a workspace."""
    from cli.credit import credit

    return credit


@click.command()
@click.argument("amount")
@_workspace
@click.option("--reference", help="Names this top-up: sent again under the same, it is added once.")
@talks
def topup() -> Work:
    """Add AMOUNT credits to a workspace."""
    from cli.credit import top_up

    return top_up


@click.command("evaluate-live")
@_campaign
@click.option("--seconds", type=click.IntRange(1, 3_600), default=30, show_default=True, help="How long.")
@talks
def evaluate_live() -> Work:
    """Have the sales worker sample its machine for some seconds, while a campaign is under way.

    What `evaluate` does with a campaign of its own. The report is left in the worker's DATA_DIR.
    """
    from cli.evaluate import evaluate_live

    return evaluate_live


COMMANDS = (
    send,
    run,
    watch,
    campaigns,
    campaign,
    _control("pause", "Pause a campaign: nothing more of it is taken to the carrier."),
    _control("resume", "Go on with a paused campaign."),
    _control("cancel", "End a campaign for good; what has not gone to the carrier never will."),
    retry,
    export,
    credit,
    topup,
    evaluate_live,
)
