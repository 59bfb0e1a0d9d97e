"""Run, schedule, pause and resume campaigns; each statement checks the status that it changes.

    created -> scheduled -> inprogress <-> paused -> completed
    any of these except completed -> cancelled (see `cancellation`)

Batches that the carrier has, or may have, are followed up in every status until their messages are final.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from bulksms import batches, campaigns
from bulksms.campaigns import FIELDS, Campaign, from_row, get
from bulksms.idempotency import Key
from bulksms.status import CampaignStatus
from common import audit_log
from common.audit_log import Actor
from common.database import Connection, Database


class WrongStateError(Exception):
    """The campaign's status does not allow the operation."""

    def __init__(self, status: CampaignStatus) -> None:
        super().__init__(f"the campaign is {status}")
        self.status = status


# Of concurrent requests the first one's key is kept: the worker uses it to finish an interrupted start.
_REQUEST_RUN = """
    UPDATE bulksms SET run_requested_at = clock_timestamp(), run_key = coalesce(run_key, $2)
    WHERE id = $1 AND status IN ('created', 'scheduled')
    RETURNING run_requested_at
"""

# Only its own request: a later one may have succeeded after a top-up.
_WITHDRAW_RUN = """
    UPDATE bulksms SET run_requested_at = NULL, run_key = NULL
    WHERE id = $1 AND run_requested_at = $2 AND status IN ('created', 'scheduled')
"""

_START = f"""
    UPDATE bulksms
    SET status = 'inprogress', started_at = clock_timestamp(), resumed_at = clock_timestamp(), modified_at = now()
    WHERE id = $1 AND status IN ('created', 'scheduled')
    RETURNING {FIELDS}
"""

_SCHEDULE = f"""
    UPDATE bulksms SET status = 'scheduled', scheduled_for = $2, modified_at = now()
    WHERE id = $1 AND status IN ('created', 'scheduled') AND run_requested_at IS NULL
    RETURNING {FIELDS}
"""

_TO_START = """
    SELECT id FROM bulksms
    WHERE status = 'scheduled' AND scheduled_for <= now()
       OR status IN ('created', 'scheduled') AND run_requested_at < now() - $1 * interval '1 second'
    LIMIT 100
"""

_PAUSE = f"""
    UPDATE bulksms SET status = 'paused', modified_at = now()
    WHERE id = $1 AND status IN ('scheduled', 'inprogress')
    RETURNING {FIELDS}
"""

_PAUSE_SCHEDULED = """
    UPDATE bulksms SET status = 'paused', pause_reason = $2, modified_at = now()
    WHERE id = $1 AND status = 'scheduled' AND run_requested_at IS NULL
    RETURNING workspace_id
"""

_RESUME = f"""
    UPDATE bulksms
    SET status = CASE WHEN started_at IS NULL THEN 'scheduled'::campaign_status ELSE 'inprogress' END,
        resumed_at = clock_timestamp(), pause_reason = NULL, modified_at = now()
    WHERE id = $1 AND status = 'paused'
    RETURNING {FIELDS}
"""

# The share of messages that the carrier has refused since the campaign was started or resumed.
_PAUSE_IF_REFUSED = """
    UPDATE bulksms
    SET status = 'paused', modified_at = now(),
        pause_reason = format('the carrier refused %s of %s messages, the last with: %s', refused, tried, $4::text)
    FROM (
        SELECT sum(b.refused) AS refused, sum(b.last_seq - b.first_seq + 1) AS tried
        FROM bulksms_batch AS b JOIN bulksms ON bulksms.id = b.bulksms_id
        WHERE b.bulksms_id = $1 AND b.state IN ('submitted', 'refused') AND b.submitted_at >= bulksms.resumed_at
    ) AS sends
    WHERE id = $1 AND status = 'inprogress' AND tried >= $3 AND refused >= $2::float8 * tried
    RETURNING workspace_id, pause_reason
"""


async def request_run(database: Database, bulksms_id: UUID, key: str | None = None) -> tuple[Campaign, datetime]:
    """Record the request to run a campaign before its credit is reserved; returns the campaign and the request's time.

    If the process ends between the reservation and the start, `campaigns_to_start` finds the request.
    Raises CampaignNotFoundError, WrongStateError.
    """
    async with database.connection() as connection:
        requested = await connection.fetchval(_REQUEST_RUN, bulksms_id, key)
    campaign = await get(database, bulksms_id)
    if requested is None:
        raise WrongStateError(campaign.status)
    return campaign, requested


async def withdraw_run(database: Database, bulksms_id: UUID, requested: datetime) -> None:
    """Withdraw the request to run a campaign that cannot start now."""
    async with database.connection() as connection:
        await connection.execute(_WITHDRAW_RUN, bulksms_id, requested)


class Started(NamedTuple):
    """A campaign that has just been started, and the idempotency keys of the requests to run it."""

    campaign: Campaign
    keys: list[Key]


async def start(
    connection: Connection, bulksms_id: UUID, batch_size: int, key: str | None, actor: Actor
) -> Started | None:
    """Start a campaign whose cost is reserved; None if another call has started it.

    `key`: the client's idempotency key for this run; the key recorded by `request_run` is returned with it.
    """
    row = await connection.fetchrow(_START, bulksms_id)
    if row is None:
        return None
    campaign = from_row(row)
    await batches.create(connection, bulksms_id, batch_size)
    await _record(connection, actor, "campaign.run", campaign, cost=str(campaign.total_cost))
    first_key = await connection.fetchval("SELECT run_key FROM bulksms WHERE id = $1", bulksms_id)
    return Started(campaign, [run_key(campaign, value) for value in {key, first_key} - {None}])


def run_key(campaign: Campaign, key: str, moment: datetime | None = None) -> Key:
    """A client's idempotency key for running a campaign, now or at a time."""
    when = moment.astimezone(UTC).isoformat().encode() if moment else b""
    return Key(campaign.workspace_id, "run", key, campaign.id.bytes + when)


async def schedule(connection: Connection, bulksms_id: UUID, moment: datetime, actor: Actor) -> Campaign:
    """Schedule or reschedule the campaign for `moment`. Raises CampaignNotFoundError, WrongStateError."""
    row = await connection.fetchrow(_SCHEDULE, bulksms_id, moment)
    if row is None:
        raise WrongStateError((await campaigns.read(connection, bulksms_id)).status)
    campaign = from_row(row)
    await _record(connection, actor, "campaign.schedule", campaign, scheduled_for=moment.astimezone(UTC).isoformat())
    return campaign


async def campaigns_to_start(database: Database, after: float) -> list[UUID]:
    """Campaigns whose scheduled time has come, or whose run was requested `after` seconds ago and interrupted."""
    async with database.connection() as connection:
        return [row["id"] for row in await connection.fetch(_TO_START, after)]


async def pause(database: Database, bulksms_id: UUID, actor: Actor) -> Campaign:
    """Stop submitting batches of the campaign; a scheduled one does not start.

    Raises CampaignNotFoundError, WrongStateError.
    """
    return await _change(database, _PAUSE, bulksms_id, "campaign.pause", actor, already=(CampaignStatus.PAUSED,))


async def pause_scheduled(database: Database, bulksms_id: UUID, reason: str, actor: Actor) -> None:
    """Pause a scheduled campaign that cannot start, unless a run was requested meanwhile."""
    async with database.transaction() as connection:
        workspace_id = await connection.fetchval(_PAUSE_SCHEDULED, bulksms_id, reason)
        if workspace_id:
            await audit_log.write(
                connection, actor, "campaign.pause", workspace_id=workspace_id, object_id=bulksms_id, automatic=True
            )


async def pause_if_refused(
    database: Database, bulksms_id: UUID, share: float, min_messages: int, last_error: str, actor: Actor
) -> str | None:
    """Pause a campaign if the carrier refused at least `share` of its `min_messages` or more messages.

    `last_error`: the carrier's latest reason. Returns the reason of the pause, None if the campaign goes on.
    """
    async with database.transaction() as connection:
        row = await connection.fetchrow(_PAUSE_IF_REFUSED, bulksms_id, share, min_messages, last_error)
        if row is None:
            return None
        workspace_id, reason = row
        await audit_log.write(
            connection, actor, "campaign.pause", workspace_id=workspace_id, object_id=bulksms_id, automatic=True
        )
    return str(reason)


async def resume(database: Database, bulksms_id: UUID, actor: Actor) -> Campaign:
    """Resume a paused campaign. Raises CampaignNotFoundError, WrongStateError."""
    already = (CampaignStatus.INPROGRESS, CampaignStatus.SCHEDULED)
    return await _change(database, _RESUME, bulksms_id, "campaign.resume", actor, already=already)


async def _change(
    database: Database,
    statement: str,
    bulksms_id: UUID,
    action: str,
    actor: Actor,
    *,
    already: Collection[CampaignStatus],
) -> Campaign:
    """Change the status with `statement`; a campaign in one of the statuses `already` is returned unchanged."""
    async with database.transaction() as connection:
        row: Record | None = await connection.fetchrow(statement, bulksms_id)
        if row is not None:
            campaign = from_row(row)
            await _record(connection, actor, action, campaign)
            return campaign
    campaign = await get(database, bulksms_id)
    if campaign.status not in already:
        raise WrongStateError(campaign.status)
    return campaign


async def _record(connection: Connection, actor: Actor, action: str, campaign: Campaign, **details: str) -> None:
    await audit_log.write(
        connection, actor, action, workspace_id=campaign.workspace_id, object_id=campaign.id, **details
    )
