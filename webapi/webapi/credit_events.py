"""Credit as webapi shows it: the same JSON over HTTP, the WebSocket and the Redis channel."""

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
    """A workspace's credit, amounts as decimal strings; the one with the greater version is the newer."""

    workspace_id: UUID
    name: str
    credit: Decimal
    reserved: Decimal
    available: Decimal
    version: int

    @classmethod
    def of(cls, current: Credit) -> Self:
        """The credit as the API shows it."""
        return cls(
            current.workspace_id, current.name, current.credit, current.reserved, current.available, current.version
        )


def encode(current: Credit) -> bytes:
    """Encode the credit as JSON."""
    return msgspec.json.encode(CreditView.of(current))


async def publish(broadcast: KrispBroadcast, current: Credit) -> None:
    """Publish the credit to every webapi process. A lost message does no harm: `reconcile` makes up for it."""
    try:
        await broadcast.publish(CREDIT_CHANNEL, str(current.workspace_id), encode(current))
    except Exception as error:
        log.warning("a credit update was not published", workspace_id=str(current.workspace_id), reason=str(error))


async def reconcile(ds: Database, broadcast: KrispBroadcast, period: float = 2.0) -> None:
    """Every `period` seconds, deliver the credit in ds to the subscribers of this process.

    Pub/sub may lose a message: Redis was down, or a worker ended between its commit and the publishing. A subscriber
    ignores a version that it has sent already, so nothing is sent unless an update was lost.
    """
    while True:
        await asyncio.sleep(period)
        workspaces = [UUID(topic) for topic in broadcast.topics(CREDIT_CHANNEL)]
        if not workspaces:
            continue
        try:
            for current in await credit.get_many(ds, workspaces):
                broadcast.deliver(Event(CREDIT_CHANNEL, str(current.workspace_id), encode(current)))
        except Exception as error:
            log.warning("credit cannot be reconciled now", reason=str(error) or type(error).__name__)
