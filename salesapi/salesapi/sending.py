"""Sends campaigns to the carrier, batch by batch; what each batch has reached is committed around every call."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import structlog

from bulksms import batches, campaigns, lifecycle, message_id, reports
from bulksms.batches import Batch
from bulksms.message import Template
from bulksms.outbox import Entry
from bulksms.reports import DeliveryReport
from bulksms.status import SmsStatus
from common.batcher import Batcher
from common.database import Database
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

_LONGEST_PAUSE = 30.0  # seconds between two tries of a batch
_TURN = 20.0  # seconds, after which others get the lane
_MOST_LANES = 40  # of the worker's jobs: the rest is for its schedule
_LAST_CALL = 5.0  # seconds for a submission under way when the worker is told to stop


class RefusalLimit(NamedTuple):
    """When a campaign pauses by itself: the carrier refused this share of its sends, `least` messages or more."""

    share: float
    least: int


class Sender:
    """Takes batches of campaigns and submits them; at most `lanes` of one campaign at once in this process.

    `lease`: seconds for which a batch is this worker's; `patience`: seconds of it after which it is too late to call
    the carrier, whose answer another worker might no longer wait for.
    """

    def __init__(
        self,
        salesdb: Database,
        carrier: Carrier,
        charges: Batcher[Entry],
        *,
        lanes: int,
        lease: float,
        patience: float,
        refusal_limit: RefusalLimit,
    ) -> None:
        self._salesdb = salesdb
        self._carrier = carrier
        self._charges = charges
        self._lanes = lanes
        self._lease = lease
        self._patience = patience
        self._refusal_limit = refusal_limit
        self._active: dict[UUID, int] = {}

    async def send(self, bulksms_id: UUID) -> bool:
        """One lane: submit batch after batch for some seconds; True if there may be more to be had now."""
        if self._active.get(bulksms_id, 0) >= self._lanes or sum(self._active.values()) >= _MOST_LANES:
            return False
        self._active[bulksms_id] = self._active.get(bulksms_id, 0) + 1
        try:
            return await self._lane(bulksms_id)
        finally:
            self._active[bulksms_id] -= 1
            if not self._active[bulksms_id]:
                del self._active[bulksms_id]

    async def _lane(self, bulksms_id: UUID) -> bool:
        template = Template.parse((await campaigns.get(self._salesdb, bulksms_id)).message)
        ends = time.monotonic() + _TURN
        taken = 0
        while goes_on := await _to_the_end(self._take(bulksms_id, template)):
            taken += 1
            if time.monotonic() > ends:
                break
        if taken:
            log.info("batches submitted", bulksms_id=str(bulksms_id), batches=taken)
        return goes_on

    async def _take(self, bulksms_id: UUID, template: Template) -> bool:
        """Claim a batch and submit it; False if none is to be had now, or the carrier should be left alone."""
        too_late = time.monotonic() + self._patience
        batch = await batches.claim(self._salesdb, bulksms_id, self._lease, idempotent=self._carrier.idempotent)
        if batch is None:
            return False
        try:
            messages = await self._messages(batch, template)
        except Exception as error:
            await batches.postpone(self._salesdb, batch, 0.0, f"it could not be read: {error}", uncertain=False)
            raise
        return await self._submit(batch, messages, too_late)

    async def _messages(self, batch: Batch, template: Template) -> list[Message]:
        return [
            Message(
                message_id.encode(batch.bulksms_id, recipient.seq),
                recipient.contact_number,
                template.render(recipient.fields or ()),
            )
            for recipient in await batches.recipients(self._salesdb, batch)
        ]

    async def _submit(self, batch: Batch, messages: list[Message], too_late: float) -> bool:
        """Call the carrier once and commit what is known afterwards; False if it should be left alone for a while.

        A worker that was held up (frozen, starved) may have lost its turn, and must not act on what it believes.
        """
        if time.monotonic() > too_late:
            log.warning("batch given back, its turn was nearly over", batch=batch.key)
            await batches.postpone(self._salesdb, batch, 0.0, "the worker was held up", uncertain=False)
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
                log.warning("nobody knows if a batch was sent", batch=batch.key, reason=str(error))
                await batches.mark_unknown(self._salesdb, batch, str(error))
            return False
        except CarrierRefusedError as error:
            log.error("the carrier refused a batch", batch=batch.key, reason=str(error))
            if batch.uncertain:  # this call has not left, an earlier one may have: its reports will tell
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
        self, batch: Batch, error: Exception, at_least: float = 0.0, *, uncertain: bool = False
    ) -> None:
        delay = min(0.2 * 2 ** min(batch.attempt, 10), _LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        log.warning("batch postponed", batch=batch.key, attempt=batch.attempt, reason=str(error))
        await batches.postpone(self._salesdb, batch, max(delay, at_least), str(error), uncertain=uncertain)

    async def _pause_if_refused(self, batch: Batch, last: str) -> None:
        reason = await lifecycle.pause_if_refused(self._salesdb, batch.bulksms_id, *self._refusal_limit, last)
        if reason:
            log.error("campaign paused", bulksms_id=str(batch.bulksms_id), reason=reason)

    async def _fail(self, rejected: list[tuple[str, str]]) -> None:
        """The carrier will not send these messages: they have not left."""
        rows = [(message_id.decode(rejected_id), reason) for rejected_id, reason in rejected]
        await self._apply([DeliveryReport(*row, SmsStatus.FAILED, reason[:100]) for row, reason in rows if row])

    async def expire(self, validity: float) -> int:
        """Make `undelivered` what has had no news for `validity` seconds since it was submitted. Returns how many."""
        expired = 0
        while silent := await batches.overdue(self._salesdb, validity):
            for batch in silent:
                rows = await batches.overdue_seqs(self._salesdb, batch)
                if rows:
                    expired += len(rows)
                    log.info("messages expired", batch=batch.key, messages=len(rows))
                    await self._apply(
                        [DeliveryReport(batch.bulksms_id, seq, SmsStatus.UNDELIVERED, "expired") for seq in rows]
                    )
                await batches.close(self._salesdb, batch)
        return expired

    async def _apply(self, delivery_reports: list[DeliveryReport]) -> None:
        applied = await reports.apply(self._salesdb, delivery_reports)
        self._charges.add(applied.entries)


async def _to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end even if we are cancelled meanwhile: half a submission is one nobody knows about."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=_LAST_CALL)
        raise
