"""One command's run: a client and a screen for it, and how it ends, also when something is refused or Ctrl-C comes."""

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
    """What a command works with."""

    api: Api
    screen: Screen
    settings: Settings

    async def workspace(self, named: str | None) -> str:
        """Which workspace is meant: the one that is named, the setting's, or the API key's own."""
        if named or "WORKSPACE" in configured() or not self.settings.api_key:
            return named or self.settings.workspace
        return await self.api.own_workspace() or self.settings.workspace


async def talk(settings: Settings, screen: Screen, work: Callable[[Session], Awaitable[bool]]) -> bool:
    """Do `work` with a client of the services that `settings` names; True if it has come to what was asked for."""
    async with Api(settings) as api:
        return await work(Session(api, screen, settings))


def run(work: Callable[[Screen], Awaitable[bool]], *, as_json: bool = False) -> int:
    """Do `work` to its end, and show what it is refused; returns the exit code: 0 done, 1 not done, 130 Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where a shell has started us with it ignored
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
