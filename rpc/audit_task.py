"""Run the audit periodically and export its result as metrics."""

import asyncio
import time

import structlog

from common.database import Database
from rpc.audit import audit
from rpc.metrics import AuditMetrics

log = structlog.get_logger()

_MAX_SHARE = 0.02  # of the time: an audit reads every contact, so it takes long on a large database


async def keep_auditing(ds: Database, salesdb: Database, metrics: AuditMetrics, period: float) -> None:
    """Audit every `period` seconds, less often if an audit takes long; log the differences."""
    while True:
        started = time.monotonic()
        try:
            async with ds.connection() as ds_connection, salesdb.connection() as salesdb_connection:
                books = await audit(ds_connection, salesdb_connection)
        except Exception as error:
            log.warning("audit failed", reason=str(error) or type(error).__name__)
        else:
            for difference in books.differences[:10]:
                log.error("the books do not balance", difference=difference)
            metrics.differences.set(len(books.differences))
            metrics.time.set_to_current_time()
        await asyncio.sleep(max(period, (time.monotonic() - started) / _MAX_SHARE))
