"""The command line: each command calls into the package that does the work."""

import sys
from collections.abc import Callable

import click

from common.settings import Settings, SettingsError, load


@click.group()
def cli() -> None:
    """A bulk SMS system: campaigns, credit and delivery reports that add up."""


def service(name: str, about: str, start: Callable[[Settings], None]) -> None:
    """Add `NAME serve`."""

    @cli.group(name, help=about)
    def group() -> None: ...

    @group.command(help=f"Run {about[0].lower()}{about[1:]}")
    def serve() -> None:
        start(_settings())


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


def _settings() -> Settings:
    try:
        return load()
    except SettingsError as error:
        sys.exit(f"console.py: {error}")


if __name__ == "__main__":
    cli()
