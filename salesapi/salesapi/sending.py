"""Submit the batches of campaigns to the carrier; the state of a batch is committed before and after each call."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import structlog

from bulksms import apply_reports, batches, campaigns, lifecycle, message_id
from bulksms.apply_reports import DeliveryReport
from bulksms.batches import Batch
from bulksms.message import Template
from bulksms.outbox import Entry
from bulksms.status import SmsStatus
from common import audit_log
from common.batcher import Batcher
from common.database import Database
from common.topology import SALES_WORKER
from salesapi.carrier.port import (
    Carrier,
    CarrierBusyError,
    CarrierRefusedError,
    CarrierUnavailableError,
    CarrierUnknownError,
    Message,
)

log = structlog.get_logger()

T = TypeVar("T")

_ACTOR = audit_log.worker(SALES_WORKER)
_MAX_BACKOFF = 30.0  # seconds between two attempts of a batch
_MAX_JOB_TIME = 20.0  # seconds, after which the job ends so that other campaigns are sent too
_MAX_SENDING_JOBS = 40  # of the worker's concurrent jobs; the rest is for its schedule
_SHUTDOWN_TIMEOUT = 5.0  # seconds for a submission in progress when the worker is stopped


class RefusalLimit(NamedTuple):
    """When to pause a campaign: the carrier refused this share of at least `min_messages` messages."""

    share: float
    min_messages: int


class Sender:
    """Claims batches and submits them, at most `concurrency` of one campaign at once in this process.

    `lease`: seconds for which a claimed batch belongs to this worker; `submit_within`: seconds of the lease in which
    the carrier may be called, so that the call ends before another worker can claim the batch.
    """

    def __init__(
        self,
        salesdb: Database,
        carrier: Carrier,
        charges: Batcher[Entry],
        *,
        concurrency: int,
        lease: float,
        submit_within: float,
        refusal_limit: RefusalLimit,
    ) -> None:
        self._salesdb = salesdb
        self._carrier = carrier
        self._charges = charges
        self._concurrency = concurrency
        self._lease = lease
        self._submit_within = submit_within
        self._refusal_limit = refusal_limit
        self._active: dict[UUID, int] = {}

    async def send(self, bulksms_id: UUID) -> bool:
        """Submit due batches of the campaign, one after another for some seconds; True if more may be due."""
        if self._active.get(bulksms_id, 0) >= self._concurrency or sum(self._active.values()) >= _MAX_SENDING_JOBS:
            return False
        self._active[bulksms_id] = self._active.get(bulksms_id, 0) + 1
        try:
            return await self._send_batches(bulksms_id)
        finally:
            self._active[bulksms_id] -= 1
            if not self._active[bulksms_id]:
                del self._active[bulksms_id]

    async def _send_batches(self, bulksms_id: UUID) -> bool:
        template = Template.parse((await campaigns.get(self._salesdb, bulksms_id)).message)
        end = time.monotonic() + _MAX_JOB_TIME
        count = 0
        while has_more := await _finish(self._send_next(bulksms_id, template)):
            count += 1
            if time.monotonic() > end:
                break
        if count:
            log.info("batches submitted", bulksms_id=str(bulksms_id), batches=count)
        return has_more

    async def _send_next(self, bulksms_id: UUID, template: Template) -> bool:
        """Claim a batch and submit it; False if none is due, or the carrier needs a pause."""
        deadline = time.monotonic() + self._submit_within
        batch = await batches.claim(self._salesdb, bulksms_id, self._lease, idempotent=self._carrier.idempotent)
        if batch is None:
            return False
        try:
            messages = await self._messages(batch, template)
        except Exception as error:
            await batches.postpone(self._salesdb, batch, 0.0, f"the batch could not be read: {error}", uncertain=False)
            raise
        if not messages:  # all its contacts were erased
            await batches.mark_submitted(self._salesdb, batch, 0, None)
            return True
        return await self._submit(batch, messages, deadline)

    async def _messages(self, batch: Batch, template: Template) -> list[Message]:
        return [
            Message(
                message_id.encode(batch.bulksms_id, recipient.seq),
                recipient.contact_number,
                template.render(recipient.fields or ()),
            )
            for recipient in await batches.recipients(self._salesdb, batch)
        ]

    async def _submit(self, batch: Batch, messages: list[Message], deadline: float) -> bool:
        """Call the carrier once and commit the result; False if the carrier needs a pause.

        After `deadline` the carrier is not called: a delayed worker's lease may have expired during the call.
        """
        if time.monotonic() > deadline:
            log.warning("batch postponed, its lease has almost expired", batch=batch.key)
            await batches.postpone(self._salesdb, batch, 0.0, "the worker was delayed", uncertain=False)
            return True
        try:
            submission = await self._carrier.submit(batch.key, messages)
        except (CarrierBusyError, CarrierUnavailableError) as error:
            await self._postpone(batch, error, getattr(error, "retry_after", 0.0))
            return False
        except CarrierUnknownError as error:
            if self._carrier.idempotent:
                await self._postpone(batch, error, uncertain=True)
            else:
                log.warning("batch state unknown: the carrier may have received it", batch=batch.key, reason=str(error))
                await batches.mark_unknown(self._salesdb, batch, str(error))
            return False
        except CarrierRefusedError as error:
            log.error("the carrier refused a batch", batch=batch.key, reason=str(error))
            if batch.uncertain:  # an earlier call may have reached the carrier: wait for its reports
                await batches.mark_unknown(self._salesdb, batch, str(error))
                return True
            await self._fail([(message.message_id, "refused") for message in messages])
            await batches.mark_refused(self._salesdb, batch, str(error))
            await self._pause_if_refused(batch, str(error))
            return True
        rejected = submission.rejected
        if rejected:
            await self._fail(rejected)
        await batches.mark_submitted(self._salesdb, batch, len(rejected), rejected[-1][1] if rejected else None)
        if rejected:
            await self._pause_if_refused(batch, rejected[-1][1])
        return True

    async def _postpone(
        self, batch: Batch, error: Exception, min_delay: float = 0.0, *, uncertain: bool = False
    ) -> None:
        delay = min(0.2 * 2 ** min(batch.attempt, 10), _MAX_BACKOFF) * random.uniform(0.5, 1.0)
        log.warning("batch postponed", batch=batch.key, attempt=batch.attempt, reason=str(error))
        await batches.postpone(self._salesdb, batch, max(delay, min_delay), str(error), uncertain=uncertain)

    async def _pause_if_refused(self, batch: Batch, last_error: str) -> None:
        reason = await lifecycle.pause_if_refused(
            self._salesdb, batch.bulksms_id, *self._refusal_limit, last_error, _ACTOR
        )
        if reason:
            log.error("campaign paused", bulksms_id=str(batch.bulksms_id), reason=reason)

    async def _fail(self, rejected: list[tuple[str, str]]) -> None:
        """Mark messages that the carrier rejected as failed."""
        rows = [(message_id.decode(rejected_id), reason) for rejected_id, reason in rejected]
        await self._apply([DeliveryReport(*row, SmsStatus.FAILED, reason[:100]) for row, reason in rows if row])

    async def expire(self, validity: float) -> int:
        """Mark messages without a final report after `validity` seconds `undelivered`; returns their number."""
        expired = 0
        while overdue := await batches.overdue(self._salesdb, validity):
            for batch in overdue:
                seqs = await batches.overdue_seqs(self._salesdb, batch)
                if seqs:
                    expired += len(seqs)
                    log.info("messages expired", batch=batch.key, messages=len(seqs))
                    await self._apply(
                        [DeliveryReport(batch.bulksms_id, seq, SmsStatus.UNDELIVERED, "expired") for seq in seqs]
                    )
                await batches.close(self._salesdb, batch)
        return expired

    async def _apply(self, delivery_reports: list[DeliveryReport]) -> None:
        applied = await apply_reports.apply(self._salesdb, delivery_reports)
        self._charges.add(applied.entries)


async def _finish(work: Coroutine[Any, Any, T]) -> T:
    """Finish the work even if cancelled meanwhile: the result of an interrupted submission would be unknown."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_SHUTDOWN_TIMEOUT)
        raise
