"""The run of one command: its client and screen, its exit code, and the handling of errors and Ctrl-C."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from cli.api import Api
from cli.display import Screen
from cli.errors import ClientError
from common.settings import Settings, configured

INTERRUPTED = 130  # the exit code after Ctrl-C


class Session(NamedTuple):
    """The client, output and settings of a command."""

    api: Api
    screen: Screen
    settings: Settings

    async def workspace(self, named: str | None) -> str:
        """The id of the workspace to use: the named one, that of the setting, or that of the API key."""
        if named or "WORKSPACE" in configured() or not self.settings.api_key:
            return named or self.settings.workspace
        return await self.api.own_workspace() or self.settings.workspace


async def with_client(settings: Settings, screen: Screen, work: Callable[[Session], Awaitable[bool]]) -> bool:
    """Run `work` with a client of the services in `settings`; return whether it succeeded."""
    async with Api(settings) as api:
        return await work(Session(api, screen, settings))


def run(work: Callable[[Screen], Awaitable[bool]], *, as_json: bool = False) -> int:
    """Run `work` and show its errors; return the exit code: 0 for success, 1 for failure, 130 for Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # even if the shell has set it to be ignored
    screen = Screen(as_json=as_json)

    async def main() -> bool:
        return await work(screen)

    try:
        return 0 if asyncio.run(main()) else 1
    except ClientError as error:
        screen.show_error(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
