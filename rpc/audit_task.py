"""The audit, kept going: whether the books balance is a metric like any other."""

import asyncio
import time

import structlog

from common.database import Database
from rpc.audit import audit
from rpc.metrics import AuditMetrics

log = structlog.get_logger()

_SHARE = 0.02  # of the time at most: an audit reads every contact, and takes as long as there are many


async def keep_auditing(ds: Database, salesdb: Database, metrics: AuditMetrics, period: float) -> None:
    """Audit every `period` seconds, or less often where an audit takes long; log what differs."""
    while True:
        begun = time.monotonic()
        try:
            async with ds.connection() as one, salesdb.connection() as other:
                books = await audit(one, other)
        except Exception as error:
            log.warning("the books cannot be audited now", reason=str(error) or type(error).__name__)
        else:
            for difference in books.differences[:10]:
                log.error("the books do not balance", difference=difference)
            metrics.differences.set(len(books.differences))
            metrics.time.set_to_current_time()
        await asyncio.sleep(max(period, (time.monotonic() - begun) / _SHARE))
