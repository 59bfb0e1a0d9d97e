"""Credit as webapi shows it: one JSON for HTTP, the WebSocket and the Redis channel."""

import asyncio
from decimal import Decimal
from typing import Self
from uuid import UUID

import msgspec
import structlog

from common.broadcast import Event, KrispBroadcast
from common.database import Database
from common.topology import CREDIT_CHANNEL
from workspace import credit
from workspace.credit import Credit

log = structlog.get_logger()


class CreditView(msgspec.Struct):
    """A workspace's credit, in credits as decimal strings; of two of one workspace the greater version is the newer."""

    workspace_id: UUID
    name: str
    credit: Decimal
    reserved: Decimal
    available: Decimal
    version: int

    @classmethod
    def of(cls, now: Credit) -> Self:
        """The credit as the API shows it."""
        return cls(now.workspace_id, now.name, now.credit, now.reserved, now.available, now.version)


def encode(now: Credit) -> bytes:
    """The credit as JSON."""
    return msgspec.json.encode(CreditView.of(now))


async def publish(broadcast: KrispBroadcast, now: Credit) -> None:
    """Tell all who watch the workspace. It is news only: whoever misses it is put right by `true_up`."""
    try:
        await broadcast.publish(CREDIT_CHANNEL, str(now.workspace_id), encode(now))
    except Exception as error:
        log.warning("news not told", workspace_id=str(now.workspace_id), reason=str(error))


async def true_up(ds: Database, broadcast: KrispBroadcast, period: float = 2.0) -> None:
    """Every `period` seconds, tell this process's watchers what ds says.

    Pub/sub may lose a message: Redis was away, or a worker ended between its commit and the publishing. A watcher
    ignores what is no newer than what it has sent, so this is silent unless something was missed.
    """
    while True:
        await asyncio.sleep(period)
        watched = broadcast.topics(CREDIT_CHANNEL)
        if not watched:
            continue
        try:
            for now in await credit.get_many(ds, [UUID(topic) for topic in watched]):
                broadcast.deliver(Event(CREDIT_CHANNEL, str(now.workspace_id), encode(now)))
        except Exception as error:
            log.warning("cannot true up the watchers", reason=str(error) or type(error).__name__)
