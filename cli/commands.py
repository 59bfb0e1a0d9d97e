"""The client commands for click. Their code is imported only when they run, so that `--help` is quick."""

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

_SUMMARY_LENGTH = 120  # characters of a command's summary in the help
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Sections(click.Group):
    """A group whose help lists its commands in sections; commands without a section come last."""

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
                    formatter.write_dl(
                        [
                            (name.ljust(longest), command.get_short_help_str(_SUMMARY_LENGTH))
                            for name, command in commands
                        ]
                    )


class Moment(click.ParamType[datetime]):
    """A time to run a campaign: ISO 8601, in this machine's time zone if none is given, or a delay such as +30m."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        moment = self._read(value, param, ctx)
        if moment <= datetime.now(UTC):
            self.fail(f"{value!r} is in the past", param, ctx)
        return moment

    def _read(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        if delay := re.fullmatch(r"\+(\d{1,6})([smhd])", value):
            return datetime.now().astimezone() + timedelta(**{_UNITS[delay[2]]: int(delay[1])})
        try:
            return datetime.fromisoformat(value).astimezone()
        except ValueError:
            self.fail(f"{value!r} is not a valid time: use 2030-01-31T09:00, or +30m for in 30 minutes", param, ctx)


as_json = click.option(
    "--json", "as_json", is_flag=True, help="JSON on stdout, for scripts; everything else on stderr."
)


def run_work(work: Work, *, as_json: bool) -> int:
    """Run `work` with a client of the services in the settings; return the exit code."""
    from cli.session import run, with_client

    try:
        settings = load()
    except SettingsError as error:
        raise click.ClickException(str(error)) from None
    return run(lambda screen: with_client(settings, screen, work), as_json=as_json)


def client_command(load_work: Callable[[], Work]) -> Callable[..., None]:
    """Decorate a function that imports the work of a command; the command runs it with its parameters."""

    @as_json
    @wraps(load_work)
    def command(*, as_json: bool, **options: Any) -> None:
        parameters = {name: str(value) if isinstance(value, UUID) else value for name, value in options.items()}
        sys.exit(run_work(partial(load_work(), **parameters), as_json=as_json))

    return command


_campaign = click.argument("bulksms_id", type=click.UUID, metavar="ID")
_workspace = click.option(
    "--workspace", type=click.UUID, metavar="ID", help="Use this workspace instead of the setting WORKSPACE."
)
_schedule = click.option("--schedule", type=Moment(), help="Run it later: 2030-01-31T09:00, or +30m for in 30 minutes.")
_watch = click.option(
    "--watch/--no-watch",
    default=None,
    help="Watch it to its end, or only start it. Default: watch, unless it is scheduled.",
)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--message", required=True, metavar="TEXT", help="The text; {Contact Name} stands for a column of FILE.")
@click.option("--name", help="The campaign's name; default: that of the file.")
@_workspace
@_schedule
@click.option("--yes", is_flag=True, help="Send without asking.")
@_watch
@client_command
def send() -> Work:
    """Send a message to everyone in FILE, a CSV.

    Shows the accepted and rejected rows and the cost, asks, runs the campaign, and watches it to its end. The exit code
    is 0 only if the campaign was completed, or started without watching. Ctrl-C leaves it running.

    \b
    python console.py send 5contacts.csv --message "Hei {Contact Name}, salmon soup today!"
    """
    from cli.send import send

    return send


@click.command()
@_campaign
@_schedule
@_watch
@client_command
def run() -> Work:
    """Run a campaign that has been created, now or later."""
    from cli.send import run

    return run


@click.command()
@_campaign
@client_command
def watch() -> Work:
    """Watch a campaign to its end; Ctrl-C leaves it running.

    The exit code is 0 only if it was completed. With --json, prints a line for each change.
    """
    from cli.watch import watch

    return watch


@click.command()
@_workspace
@click.option("--limit", type=click.IntRange(1, 1_000), default=20, show_default=True, help="Maximum number.")
@client_command
def campaigns() -> Work:
    """List campaigns, newest first."""
    from cli.campaigns import campaigns

    return campaigns


@click.command()
@_campaign
@client_command
def campaign() -> Work:
    """Show one campaign: counters, cost, times, rejected rows."""
    from cli.campaigns import campaign

    return campaign


def _control(name: str, about: str) -> click.Command:
    @click.command(name, help=about)
    @_campaign
    @client_command
    def command() -> Work:
        from cli.campaigns import control

        return partial(control, action=name)

    return command


@click.command()
@_campaign
@client_command
def delete() -> Work:
    """Delete a campaign that was not run or has ended, with its contacts; its costs stay in the books."""
    from cli.campaigns import delete

    return delete


@click.command()
@_campaign
@client_command
def retry() -> Work:
    """Create a campaign of the contacts that one failed to reach."""
    from cli.campaigns import retry

    return retry


@click.command()
@_campaign
@click.option("-o", "--output", type=click.Path(dir_okay=False, allow_dash=True), help="Default: ID.csv; - is stdout.")
@client_command
def export() -> Work:
    """Save every contact of a campaign with its status, as CSV."""
    from cli.campaigns import export

    return export


@click.command()
@click.argument("workspace", type=click.UUID, required=False, metavar="[WORKSPACE]")
@click.option("--watch", is_flag=True, help="Show every change as it happens; with --json, a line for each.")
@client_command
def credit() -> Work:
    """Show the credit of a workspace."""
    from cli.credit import credit

    return credit


@click.command()
@click.argument("amount")
@_workspace
@click.option("--reference", help="Name of this top-up; repeated with the same name, it is added only once.")
@client_command
def topup() -> Work:
    """Add AMOUNT credits to a workspace."""
    from cli.credit import top_up

    return top_up


@click.command("audit-log")
@_workspace
@click.option("--action", help="Only this action, such as campaign.run.")
@click.option("--object", "object_id", type=click.UUID, help="Only this campaign, key or workspace.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=50, show_default=True, help="Maximum number.")
@client_command
def audit_log() -> Work:
    """Show who changed what, newest first."""
    from cli.audit_log import audit_log

    return audit_log


@click.command()
@click.argument("number")
@_workspace
@client_command
def erase() -> Work:
    """Erase a phone NUMBER from everything that is stored, and show the receipt.

    Messages to it that are not sent yet are not sent. With --workspace, or the key of a workspace, only there.
    """
    from cli.audit_log import erase

    return erase


@click.command("evaluate-live")
@_campaign
@click.option("--seconds", type=click.IntRange(1, 3_600), default=30, show_default=True, help="Duration.")
@client_command
def evaluate_live() -> Work:
    """Have the sales worker sample its machine for some seconds, while a campaign is running.

    Like `evaluate`, but for an existing campaign. The report is written to the worker's DATA_DIR.
    """
    from cli.evaluate import evaluate_live

    return evaluate_live


COMMANDS = (
    send,
    run,
    watch,
    campaigns,
    campaign,
    _control("pause", "Pause a campaign: no more of its messages are submitted."),
    _control("resume", "Resume a paused campaign."),
    _control("cancel", "Cancel a campaign permanently; its unsent messages are never sent."),
    delete,
    retry,
    export,
    credit,
    topup,
    audit_log,
    erase,
    evaluate_live,
)
