"""The command line: each command calls into the package that does the work."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click
from rich.console import Console

from common.protected import UnprotectedError
from common.settings import Settings, SettingsError, given, load
from workspace.commands import key_commands, with_key, workspace_commands

if TYPE_CHECKING:
    from common.system import System


@click.group()
def cli() -> None:
    """A bulk SMS system: campaigns, credit and delivery reports that add up."""


def service(name: str, about: str, start: Callable[[Settings], None]) -> None:
    """Add `NAME serve`."""

    @cli.group(name, help=about)
    def group() -> None: ...

    @group.command(help=f"Run {about[0].lower()}{about[1:]}")
    def serve() -> None:
        try:
            start(_settings())
        except UnprotectedError as error:
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
    from salesapi.carrier.server import serve

    serve(settings)


service("webapi", "Node 1: the credit of workspaces, over HTTP and WebSocket.", _webapi)
service("salesapi", "Node 2: campaigns and the carrier's callbacks, over HTTP.", _salesapi)
service("rpc", "Node 3: the gRPC server.", _rpc)
service("carrier", "The simulated mobile carrier.", _carrier)
cli.add_command(workspace_commands)
cli.add_command(key_commands)


@cli.command()
@click.argument("contacts", type=click.Path(exists=True, dir_okay=False, path_type=Path), default="5contacts.csv")
def demo(contacts: Path) -> None:
    """Start the whole system, send one campaign to CONTACTS, show what happens, end it all."""
    from common.demo import Demo, DemoFailedError

    screen = Console()
    with _system() as system:
        try:
            asyncio.run(with_key(system.settings, lambda key: Demo(system.settings, contacts, screen, key).run()))
        except DemoFailedError as error:
            raise click.ClickException(str(error)) from None
    click.echo(
        "\nGo on: `make up` keeps it all running for curl, see the README; `make demo CONTACTS=5000contacts.csv`."
    )


@cli.command()
def up() -> None:
    """Keep the whole system running until Ctrl-C."""
    with _system() as system:
        click.echo(
            f"\nThe system is up: the dashboard: http://localhost:{system.settings.webapi_port}. The README shows what "
            f"to ask it. Logs are in {system.log_dir}. Ctrl-C ends it."
        )
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
@click.option("--workspace", type=click.UUID, help="Only the books of this workspace.")
def audit(workspace: UUID | None) -> None:
    """Check the books of the running system: every credit and every contact accounted for.

    Reads both databases and changes nothing. Ends with code 1, and what differs, if something does not add up.
    """
    from common.audit import run

    books = asyncio.run(run(_settings(), workspace))
    click.echo(f"{books.workspaces} workspaces, {books.campaigns} campaigns")
    waiting = books.waiting
    if waiting.entries:
        click.echo(
            f"on the way to ds: {waiting.entries} entries, {waiting.amount} credits, {waiting.seconds:.0f} s old"
        )
    for difference in books.differences:
        click.echo(difference, err=True)
    if books.differences:
        raise click.ClickException(f"the books do not balance: {len(books.differences)} differences")
    click.echo("the books balance")


@contextmanager
def _system(servers_only: bool = False) -> Iterator["System"]:
    """The running system; Ctrl-C and SIGTERM end it in good order."""
    from common.embedded import EmbeddedError
    from common.system import System, SystemFailedError

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has started us with it ignored
    try:
        with System(_settings(), configured=set(given()), say=click.echo, servers_only=servers_only) as system:
            yield system
    except (SystemFailedError, EmbeddedError) as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("\nended, no process is left")
        sys.exit(130)


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        sys.exit(f"console.py: {error}")


if __name__ == "__main__":
    cli()
