#!/usr/bin/env python3
"""The command line: each command calls the package that does the work."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

try:
    import click
    import msgspec
    from msgspec.structs import replace
except ImportError:
    sys.exit("console.py: dependencies are missing: run `make install`, then `. .venv/bin/activate`")

from cli import commands
from cli.admin import key_commands, with_key, workspace_commands
from common.auth.loopback import UnprotectedError
from common.settings import COMMAND, IS_CHECKOUT, Settings, SettingsError, configured, load, shipped
from common.version import __version__

if TYPE_CHECKING:
    from cli.display import Screen
    from local.launcher import System


SECTIONS = {
    "Campaigns and credit": tuple(
        command.name or "" for command in commands.COMMANDS if command is not commands.evaluate_live
    ),
    "The whole system": ("demo", "up", "servers", "evaluate", "evaluate-live", "audit"),
    "Workspaces and API keys": ("workspace", "key"),
    "Single processes": ("webapi", "salesapi", "rpc", "carrier"),
}


_CSV = click.Path(exists=True, dir_okay=False, path_type=Path)

_COMPLETION = """Completion in bash (zsh and fish likewise), with the venv active:
eval "$(_CONSOLE_PY_COMPLETE=bash_source ./console.py)", then type ./console.py and press Tab."""


@click.group(cls=commands.Sections, sections=SECTIONS, epilog=_COMPLETION)
@click.version_option(__version__, prog_name="bulk-sms")
def cli() -> None:
    """A bulk SMS system: campaigns, credit and delivery reports."""


for command in commands.COMMANDS:
    cli.add_command(command)


def service(name: str, about: str, start: Callable[[Settings], None]) -> None:
    """Add the command `NAME serve`."""

    @cli.group(name, help=about)
    def group() -> None: ...

    @group.command(help=f"Run {about[0].lower()}{about[1:]}")
    def serve() -> None:
        try:
            start(_settings())
        except (UnprotectedError, OSError) as error:
            sys.exit(f"console.py: {error}")


def _webapi(settings: Settings) -> None:
    from webapi.webapi.main import serve

    serve(settings)


def _salesapi(settings: Settings) -> None:
    from salesapi.salesapi.main import serve

    serve(settings)


def _rpc(settings: Settings) -> None:
    from rpc.server import serve

    serve(settings)


def _carrier(settings: Settings) -> None:
    from salesapi.simulator.server import serve

    serve(settings)


service("webapi", "Node 1: the credit of workspaces, over HTTP and WebSocket.", _webapi)
service("salesapi", "Node 2: campaigns and the carrier's callbacks, over HTTP.", _salesapi)
service("rpc", "Node 3: the gRPC server.", _rpc)
service("carrier", "The simulated mobile carrier.", _carrier)
cli.add_command(workspace_commands)
cli.add_command(key_commands)


@cli.command()
@click.argument(
    "contacts", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=shipped("5contacts.csv")
)
def demo(contacts: Path) -> None:
    """Start the whole system, send one campaign to CONTACTS, show its progress, and stop the system."""
    from cli.demo import demo

    _run_in_system(partial(demo, contacts=contacts))
    up, another = (
        ("make up", "make demo CONTACTS=5000contacts.csv") if IS_CHECKOUT else ("bulksms up", "bulksms demo FILE")
    )
    click.echo(f"\nNext: `{up}` keeps the system running for curl, see the README; `{another}` sends another file.")


@cli.command()
@click.argument("files", nargs=-1, required=True, type=_CSV)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Default: evaluation/DATE.")
@click.option("--every", type=click.FloatRange(0.05), default=0.2, show_default=True, help="Seconds between samples.")
@click.option(
    "--around", type=click.FloatRange(0), default=2, show_default=True, help="Seconds before and after each campaign."
)
@click.option("--running", is_flag=True, help="Evaluate the system that is already running on this machine.")
@commands.as_json
def evaluate(
    files: tuple[Path, ...], output: Path | None, every: float, around: float, running: bool, as_json: bool
) -> None:
    """Measure a campaign for each of FILES: CPU and memory of all processes, messages, credit.

    Starts and stops the whole system; writes samples, plots and a report that compares the files.
    """
    from cli.evaluate import evaluate

    folder = output or Path("evaluation", time.strftime("%Y-%m-%dT%H%M%S"))
    work = partial(evaluate, files=files, folder=folder, period=every, margin=around)
    if running:
        sys.exit(commands.run_work(work, as_json=as_json))
    _run_in_system(work, as_json=as_json)


def _run_in_system(work: commands.Work, *, as_json: bool = False) -> None:
    """Start the whole system, run client work in it with a temporary API key, and stop it; exit if the work fails."""
    from cli.session import INTERRUPTED, run, with_client

    with _system(say=partial(click.echo, err=as_json)) as system:
        settings = system.settings

        async def work_with_key(screen: "Screen") -> bool:
            return await with_key(settings, lambda key: with_client(replace(settings, api_key=key), screen, work))

        code = run(work_with_key, as_json=as_json)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
    if code:
        sys.exit(code)


@cli.command()
def up() -> None:
    """Keep the whole system running until Ctrl-C."""
    with _system() as system:
        click.echo(
            f"\nThe system is up; the dashboard: http://localhost:{system.settings.webapi_port}. "
            f"Try `{COMMAND} send 5contacts.csv --message Hei`, and see the README. "
            f"Logs are in {system.log_dir}. Ctrl-C stops it."
        )
        if changed := _changed_ports(_settings(), system.settings):
            click.echo("\n".join(("Some ports differ from the settings; set these for client commands:", *changed)))
        while True:
            system.check()
            time.sleep(0.5)


@cli.command()
def servers() -> None:
    """Run only the servers (PostgreSQL twice, Valkey), migrated and with sample data, until Ctrl-C."""
    with _system(servers_only=True) as system:
        addresses = {name: system.environ[name] for name in ("DS_DSN", "SALESDB_DSN", "REDIS_URL")}
        click.echo("\n".join(f"export {name}={value}" for name, value in addresses.items()))
        signal.pause()


@cli.command()
@click.option("--workspace", type=click.UUID, help="Check only this workspace.")
@commands.as_json
def audit(workspace: UUID | None, as_json: bool) -> None:
    """Audit the running system: every credit and every contact must be accounted for.

    Reads both databases and changes nothing. Lists the differences, and exits with code 1 if there are any.
    """
    from rpc.audit import run

    books = asyncio.run(run(_settings(), workspace))
    if workspace and not books.workspaces:
        raise click.ClickException(f"workspace {workspace} does not exist")
    if as_json:
        click.echo(msgspec.json.encode({**books._asdict(), "waiting": books.waiting._asdict()}))
        sys.exit(bool(books.differences))
    click.echo(f"{books.workspaces} workspaces, {books.campaigns} campaigns")
    waiting = books.waiting
    if waiting.entries:
        click.echo(
            f"not yet settled in ds: {waiting.entries} entries, {waiting.amount} credits, {waiting.seconds:.0f} s old"
        )
    for difference in books.differences:
        click.echo(difference, err=True)
    if books.differences:
        raise click.ClickException(f"the books do not balance: {len(books.differences)} differences")
    click.echo("the books balance")


def _changed_ports(wanted: Settings, actual: Settings) -> list[str]:
    """Shell commands that set the addresses whose ports differ from the settings."""
    names = ("webapi_port", "salesapi_port", "rpc_address", "carrier_url", "redis_url", "ds_dsn", "salesdb_dsn")
    ports = ((name, *(str(getattr(each, name)).rpartition(":")[2] for each in (wanted, actual))) for name in names)
    return [f"export {name.upper()}={getattr(actual, name)}" for name, before, now in ports if before != now]


@contextmanager
def _system(servers_only: bool = False, say: Callable[[str], None] = click.echo) -> Iterator["System"]:
    """Run the system during the block; Ctrl-C and SIGTERM stop it in order."""
    from local.binaries import EmbeddedError
    from local.launcher import System, SystemFailedError
    from local.ports import NoFreePortError

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the shell has set it to be ignored
    try:
        with System(_settings(), configured=set(configured()), say=say, servers_only=servers_only) as system:
            yield system
    except (SystemFailedError, EmbeddedError, NoFreePortError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        say("\nstopped, no process is left")
        sys.exit(130)


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        sys.exit(f"console.py: {error}")


if __name__ == "__main__":
    cli()
