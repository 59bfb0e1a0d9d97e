"""Campaigns as webapi's watchers see them: asked of the rpc node at first, then told by salesapi's news.

Of two news of a campaign the one whose messages have come further is the newer, since a message's status never goes
back. So a watcher needs no versions, and what is asked again for safety is silent unless news was lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

import msgspec
import structlog

from common.broadcast import Event, KrispBroadcast
from common.topology import CAMPAIGN_CHANNEL
from rpc.client import Progress, RpcClient

log = structlog.get_logger()

_NEWEST = 100  # campaigns of a workspace that are watched


class _Told(msgspec.Struct):
    """What a watcher gets."""

    campaign: Progress


async def tell(
    broadcast: KrispBroadcast, rpc: RpcClient, say: Callable[[bytes], Awaitable[None]], workspaces: Iterable[UUID]
) -> None:
    """Say where the workspaces' campaigns stand, oldest first, and then each that moves; until cancelled."""
    told: dict[UUID, Progress] = {}

    async def say_if_news(progress: Progress) -> None:
        before = told.get(progress.bulksms_id)
        if before is None or (progress != before and _reached(progress) >= _reached(before)):
            told[progress.bulksms_id] = progress
            await say(msgspec.json.encode(_Told(progress)))

    # Listen first, ask afterwards: a change between the two is in the mailbox.
    with broadcast.subscribe(CAMPAIGN_CHANNEL, [str(one) for one in workspaces]) as news:
        for workspace_id in workspaces:
            for progress in await _newest(rpc, workspace_id):
                await say_if_news(progress)
        while True:
            try:
                progress = msgspec.json.decode((await news.get()).data, type=Progress)
            except msgspec.MsgspecError as error:  # of a salesapi that is newer or older: `true_up` tells it
                log.warning("news of a campaign not understood", reason=str(error))
            else:
                await say_if_news(progress)


async def true_up(rpc: RpcClient, broadcast: KrispBroadcast, period: float = 2.0) -> None:
    """Every `period` seconds, tell this process's watchers what the rpc node says of their campaigns."""
    while True:
        await asyncio.sleep(period)
        for workspace in broadcast.topics(CAMPAIGN_CHANNEL):
            for progress in await _newest(rpc, UUID(workspace)):
                topic = f"{workspace}/{progress.bulksms_id}"
                broadcast.deliver(Event(CAMPAIGN_CHANNEL, topic, msgspec.json.encode(progress)))


async def _newest(rpc: RpcClient, workspace_id: UUID) -> list[Progress]:
    """The newest campaigns of a workspace, oldest first; none if they cannot be had now: the next look tells them."""
    try:
        return (await rpc.list_progress(workspace_id, _NEWEST))[::-1]
    except Exception as error:
        log.warning("cannot ask for campaigns", reason=str(error) or type(error).__name__)
        return []


def _reached(progress: Progress) -> int:
    """How far the messages have come: it grows with every step of one (see SmsStatus for the order)."""
    return progress.failed + 2 * progress.sent + 3 * progress.undelivered + 4 * progress.delivered
