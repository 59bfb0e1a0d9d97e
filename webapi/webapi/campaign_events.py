"""Campaign progress for webapi's WebSocket clients: read from the rpc node at first, then from salesapi's pub/sub.

Of two updates of a campaign the one whose messages have progressed further is the newer, since a message's status never
goes back. So updates need no version, and reading again for safety sends nothing unless an update was lost.
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

_MAX_CAMPAIGNS = 100  # the newest of a workspace are followed


class _CampaignMessage(msgspec.Struct):
    """What a client gets."""

    campaign: Progress


async def follow(
    broadcast: KrispBroadcast, rpc: RpcClient, send: Callable[[bytes], Awaitable[None]], workspaces: Iterable[UUID]
) -> None:
    """Send the progress of the workspaces' campaigns, oldest first, and then each change; until cancelled."""
    latest: dict[UUID, Progress] = {}

    async def send_if_newer(progress: Progress) -> None:
        before = latest.get(progress.bulksms_id)
        if before is None or (progress != before and _position(progress) >= _position(before)):
            latest[progress.bulksms_id] = progress
            await send(msgspec.json.encode(_CampaignMessage(progress)))

    # Subscribe first, then read: a change between the two waits in the subscription.
    with broadcast.subscribe(CAMPAIGN_CHANNEL, [str(workspace_id) for workspace_id in workspaces]) as updates:
        for workspace_id in workspaces:
            for progress in await _newest(rpc, workspace_id):
                await send_if_newer(progress)
        while True:
            try:
                progress = msgspec.json.decode((await updates.get()).data, type=Progress)
            except msgspec.MsgspecError as error:  # from another version of salesapi: `reconcile` makes up for it
                log.warning("dropped a campaign update that cannot be read", reason=str(error))
            else:
                await send_if_newer(progress)


async def reconcile(rpc: RpcClient, broadcast: KrispBroadcast, period: float = 2.0) -> None:
    """Every `period` seconds, deliver the campaigns as the rpc node has them to the subscribers of this process."""
    while True:
        await asyncio.sleep(period)
        for workspace in broadcast.topics(CAMPAIGN_CHANNEL):
            for progress in await _newest(rpc, UUID(workspace)):
                topic = f"{workspace}/{progress.bulksms_id}"
                broadcast.deliver(Event(CAMPAIGN_CHANNEL, topic, msgspec.json.encode(progress)))


async def _newest(rpc: RpcClient, workspace_id: UUID) -> list[Progress]:
    """The newest campaigns of a workspace, oldest first; empty if rpc does not answer: the next round reads them."""
    try:
        return (await rpc.list_progress(workspace_id, _MAX_CAMPAIGNS))[::-1]
    except Exception as error:
        log.warning("campaigns cannot be read from rpc now", reason=str(error) or type(error).__name__)
        return []


def _position(progress: Progress) -> int:
    """How far the messages have progressed: grows with each change of a status (see SmsStatus for the order)."""
    return progress.failed + 2 * progress.sent + 3 * progress.undelivered + 4 * progress.delivered
