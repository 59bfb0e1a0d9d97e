"""What is done with a campaign: run, schedule, pause, resume, cancel. Each changes its status once, guarded in SQL.

    created -> scheduled -> inprogress <-> paused -> completed
    and from each of them but the last -> cancelled

What has gone to the carrier goes on in any status, and so does a batch whose call ended without an answer: it may have
gone, and is followed up until that is known.
"""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Record

from bulksms import batches, campaigns
from bulksms.campaigns import FIELDS, Campaign, CampaignNotFoundError, from_row, get
from bulksms.idempotency import Key
from bulksms.outbox import Entry
from bulksms.status import CampaignStatus
from common.database import Connection, Database


class WrongStateError(Exception):
    """The campaign is in a state in which this cannot be done with it."""

    def __init__(self, status: CampaignStatus) -> None:
        super().__init__(f"the campaign is {status}")
        self.status = status


# Several may ask at once; the first one's key stays, for whoever finishes a start that was cut short.
_REQUEST = """
    UPDATE bulksms SET run_requested_at = clock_timestamp(), run_key = coalesce(run_key, $2)
    WHERE id = $1 AND status IN ('created', 'scheduled')
    RETURNING run_requested_at
"""

# Only the own request: another may have found the credit topped up in between.
_WITHDRAW = """
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

_DUE = """
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

_HOLD = """
    UPDATE bulksms SET status = 'paused', pause_reason = $2, modified_at = now()
    WHERE id = $1 AND status = 'scheduled' AND run_requested_at IS NULL
"""

_RESUME = f"""
    UPDATE bulksms
    SET status = CASE WHEN started_at IS NULL THEN 'scheduled'::campaign_status ELSE 'inprogress' END,
        resumed_at = clock_timestamp(), pause_reason = NULL, modified_at = now()
    WHERE id = $1 AND status = 'paused'
    RETURNING {FIELDS}
"""

# Of the sends since it was started or resumed, which share did the carrier refuse?
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
    RETURNING pause_reason
"""

_LOCK = "SELECT status, started_at FROM bulksms WHERE id = $1 FOR NO KEY UPDATE"

# Nothing of it was ever sent. A run may be on its way to a reservation: it ends when none can be held any more.
_CANCEL_UNSTARTED = """
    UPDATE bulksms SET status = 'cancelled', unsent_count = queued_count, modified_at = now() WHERE id = $1
"""

_CANCEL = "UPDATE bulksms SET status = 'cancelled', modified_at = now() WHERE id = $1"

# Closes what was surely never sent, and gives back what it would have cost; all the rest, if nothing is under way.
_DROP = """
    WITH closed AS (
        UPDATE bulksms_batch SET state = 'closed', error = 'cancelled'
        WHERE bulksms_id = $1 AND state = 'pending' AND NOT uncertain
        RETURNING first_seq, last_seq
    ), unsent AS (
        SELECT count(*) AS contacts, coalesce(sum(sms_cost), 0) AS cost
        FROM closed JOIN bulksms_info AS info ON info.bulksms_id = $1 AND info.seq BETWEEN first_seq AND last_seq
        WHERE info.sms_status = 'queued'
    ), dropped AS (
        UPDATE bulksms
        SET unsent_count = unsent_count + unsent.contacts,
            released = CASE WHEN queued_count + sent_count <= unsent_count + unsent.contacts
                            THEN total_cost - charged ELSE released + unsent.cost END,
            completed_at = CASE WHEN queued_count + sent_count <= unsent_count + unsent.contacts
                                THEN clock_timestamp() END,
            modified_at = now()
        FROM unsent
        WHERE id = $1 AND status = 'cancelled' AND started_at IS NOT NULL AND completed_at IS NULL
        RETURNING workspace_id, id, new.released - old.released AS amount
    )
    INSERT INTO outbox (workspace_id, bulksms_id, kind, amount, created_at)
    SELECT workspace_id, id, 'release', amount, clock_timestamp() FROM dropped WHERE amount > 0
    RETURNING reference, workspace_id, bulksms_id, kind, amount
"""

# Cancelled campaigns with a batch that came back unsent after the cancellation.
_LEFTOVERS = """
    SELECT DISTINCT b.bulksms_id
    FROM bulksms JOIN bulksms_batch AS b ON b.bulksms_id = bulksms.id
    WHERE bulksms.status = 'cancelled' AND bulksms.completed_at IS NULL AND b.state = 'pending' AND NOT b.uncertain
"""

_UNRELEASED = (
    "SELECT id, workspace_id FROM bulksms WHERE status = 'cancelled' AND completed_at IS NULL AND started_at IS NULL"
)

_RELEASED = """
    UPDATE bulksms SET completed_at = clock_timestamp()
    WHERE id = $1 AND status = 'cancelled' AND completed_at IS NULL AND started_at IS NULL
"""


async def request_run(database: Database, bulksms_id: UUID, key: str | None = None) -> tuple[Campaign, datetime]:
    """Note that the campaign is to run, before anything is reserved for it; returns it, and the request's own time.

    Should we be lost between the reservation and the start, `due` finds it and the start is finished.
    Raises CampaignNotFoundError, WrongStateError.
    """
    async with database.connection() as connection:
        requested = await connection.fetchval(_REQUEST, bulksms_id, key)
    campaign = await get(database, bulksms_id)
    if requested is None:
        raise WrongStateError(campaign.status)
    return campaign, requested


async def withdraw_run(database: Database, bulksms_id: UUID, requested: datetime) -> None:
    """The campaign cannot run now: leave it as it was before this request."""
    async with database.connection() as connection:
        await connection.execute(_WITHDRAW, bulksms_id, requested)


class Started(NamedTuple):
    """A campaign that has just been started, and the idempotency keys under which its runs were asked for."""

    campaign: Campaign
    keys: list[Key]


async def start(connection: Connection, bulksms_id: UUID, batch_size: int, key: str | None) -> Started | None:
    """Start the campaign, whose cost is reserved; None if another call has. Exactly one call gets it.

    `key`: the client's for this run; the first one that it was asked to run under, with `request_run`, counts too.
    """
    row = await connection.fetchrow(_START, bulksms_id)
    if row is None:
        return None
    campaign = from_row(row)
    await batches.create(connection, bulksms_id, batch_size)
    first_key = await connection.fetchval("SELECT run_key FROM bulksms WHERE id = $1", bulksms_id)
    return Started(campaign, [run_key(campaign, one) for one in {key, first_key} - {None}])


def run_key(campaign: Campaign, key: str, moment: datetime | None = None) -> Key:
    """A client's key for the run of a campaign, now or at a moment."""
    when = moment.astimezone(UTC).isoformat().encode() if moment else b""
    return Key(campaign.workspace_id, "run", key, campaign.id.bytes + when)


async def schedule(connection: Connection, bulksms_id: UUID, moment: datetime) -> Campaign:
    """Have the campaign run at `moment`; once more for another. Raises CampaignNotFoundError, WrongStateError."""
    row = await connection.fetchrow(_SCHEDULE, bulksms_id, moment)
    if row is None:
        raise WrongStateError((await campaigns.read(connection, bulksms_id)).status)
    return from_row(row)


async def due(database: Database, after: float) -> list[UUID]:
    """Campaigns to be started: their time has come, or a run asked for `after` seconds ago was cut short."""
    async with database.connection() as connection:
        return [row["id"] for row in await connection.fetch(_DUE, after)]


async def pause(database: Database, bulksms_id: UUID) -> Campaign:
    """Take nothing more of the campaign to the carrier; a scheduled one does not start.

    Raises CampaignNotFoundError, WrongStateError.
    """
    return await _change(database, _PAUSE, bulksms_id, already=(CampaignStatus.PAUSED,))


async def hold(database: Database, bulksms_id: UUID, reason: str) -> None:
    """Pause a scheduled campaign that cannot start, unless somebody has asked for it meanwhile."""
    async with database.connection() as connection:
        await connection.execute(_HOLD, bulksms_id, reason)


async def pause_if_refused(database: Database, bulksms_id: UUID, share: float, least: int, last: str) -> str | None:
    """Pause a campaign of whose sends, `least` or more, the carrier refuses this share. Returns the reason if it did.

    `last`: what the carrier said last.
    """
    async with database.connection() as connection:
        reason: str | None = await connection.fetchval(_PAUSE_IF_REFUSED, bulksms_id, share, least, last)
    return reason


async def resume(database: Database, bulksms_id: UUID) -> Campaign:
    """Go on with a paused campaign. Raises CampaignNotFoundError, WrongStateError."""
    return await _change(database, _RESUME, bulksms_id, already=(CampaignStatus.INPROGRESS, CampaignStatus.SCHEDULED))


async def cancel(database: Database, bulksms_id: UUID) -> tuple[Campaign, list[Entry]]:
    """End the campaign: what has not gone to the carrier never will, and what it would have cost is given back.

    Returns what is owed to ds for that. One that was never started may hold a reservation, which is given back by rpc:
    see `unreleased`.
    Raises CampaignNotFoundError, WrongStateError if it is completed.
    """
    entries: list[Entry] = []
    async with database.transaction() as connection:
        now = await connection.fetchrow(_LOCK, bulksms_id)
        if now is None:
            raise CampaignNotFoundError(f"there is no campaign {bulksms_id}")
        status = CampaignStatus(now["status"])
        if status == CampaignStatus.COMPLETED:
            raise WrongStateError(status)
        if status != CampaignStatus.CANCELLED:
            if now["started_at"] is None:
                await connection.execute(_CANCEL_UNSTARTED, bulksms_id)
            else:
                await connection.execute(_CANCEL, bulksms_id)
                entries = await _drop(connection, bulksms_id)
    return await get(database, bulksms_id), entries


async def drop_leftovers(database: Database) -> list[Entry]:
    """Close what came back unsent of campaigns that were cancelled meanwhile. Returns what is owed to ds."""
    entries: list[Entry] = []
    async with database.connection() as connection:
        for row in await connection.fetch(_LEFTOVERS):
            async with connection.transaction():
                await connection.fetchrow(_LOCK, row["bulksms_id"])
                entries += await _drop(connection, row["bulksms_id"])
    return entries


async def _drop(connection: Connection, bulksms_id: UUID) -> list[Entry]:
    return [Entry(*row) for row in await connection.fetch(_DROP, bulksms_id)]


async def unreleased(database: Database) -> list[tuple[UUID, UUID]]:
    """Campaigns cancelled before they started: id and workspace. What they may hold must be given back."""
    async with database.connection() as connection:
        return [(row["id"], row["workspace_id"]) for row in await connection.fetch(_UNRELEASED)]


async def released(database: Database, bulksms_id: UUID) -> None:
    """Note that such a campaign holds nothing any more."""
    async with database.connection() as connection:
        await connection.execute(_RELEASED, bulksms_id)


async def _change(
    database: Database, statement: str, bulksms_id: UUID, *, already: Collection[CampaignStatus]
) -> Campaign:
    """Change the status with this statement; a campaign that is `already` there stays as it is."""
    async with database.connection() as connection:
        row: Record | None = await connection.fetchrow(statement, bulksms_id)
    if row is not None:
        return from_row(row)
    campaign = await get(database, bulksms_id)
    if campaign.status not in already:
        raise WrongStateError(campaign.status)
    return campaign
