"""The tables of salesdb. The migrations create them; a test compares the two."""

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    false,
    text,
)

from bulksms.status import CampaignStatus, SmsStatus
from common.audit_log_table import audit_log_table

metadata = MetaData(naming_convention={"ck": "%(constraint_name)s"})

_NOW = text("now()")
_CREDITS = Numeric(15, 1)  # credits, in whole tenths; NaN, which is above Infinity, is refused by the CHECKs
_ZERO = text("0")

bulksms = Table(
    "bulksms",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("workspace_id", Uuid, nullable=False),
    Column(
        "status",
        Enum(*CampaignStatus, name="campaign_status"),
        nullable=False,
        server_default=CampaignStatus.CREATED,
    ),
    Column("message", Text, nullable=False),
    Column("encoding", Text, nullable=False),
    Column("segments", SmallInteger, nullable=False),  # of the longest of its messages
    Column("row_count", Integer, nullable=False),
    Column("contact_count", Integer, nullable=False),
    Column("rejected_count", Integer, nullable=False),
    Column("duplicate_count", Integer, nullable=False),
    Column("total_cost", _CREDITS, nullable=False),
    Column("charged", _CREDITS, nullable=False, server_default=_ZERO),
    Column("queued_count", Integer, nullable=False),
    Column("sent_count", Integer, nullable=False, server_default=_ZERO),
    Column("failed_count", Integer, nullable=False, server_default=_ZERO),
    Column("delivered_count", Integer, nullable=False, server_default=_ZERO),
    Column("undelivered_count", Integer, nullable=False, server_default=_ZERO),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("modified_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("run_requested_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("completed_at", DateTime(timezone=True)),  # all messages are final and the reservation is released
    Column("scheduled_for", DateTime(timezone=True)),
    Column("resumed_at", DateTime(timezone=True)),
    Column("pause_reason", Text),  # why it was paused automatically
    Column("run_key", Text),  # the idempotency key of the request to run it
    Column("retry_of", Uuid, ForeignKey("bulksms.id")),
    Column("unsent_count", Integer, nullable=False, server_default=_ZERO),  # contacts cancelled before submission
    Column("released", _CREDITS, nullable=False, server_default=_ZERO),  # credits released on cancellation
    Column("purged_at", DateTime(timezone=True)),  # when its personal data was deleted, see `retention`
    Column("purge_pending", Boolean, nullable=False, server_default=false()),  # rows are still to be deleted
    CheckConstraint("row_count = contact_count + rejected_count + duplicate_count", name="bulksms_rows"),
    CheckConstraint(
        "contact_count = queued_count + sent_count + failed_count + delivered_count + undelivered_count",
        name="bulksms_contacts",
    ),
    Column("deleted_at", DateTime(timezone=True)),
    CheckConstraint("status <> 'scheduled' OR scheduled_for IS NOT NULL", name="bulksms_scheduled"),
    CheckConstraint(
        "total_cost >= 0 AND charged >= 0 AND released >= 0 "
        "AND total_cost < 'Infinity' AND charged < 'Infinity' AND released < 'Infinity'",
        name="bulksms_amounts",
    ),
    Index("bulksms_workspace_id_idx", "workspace_id", "id"),
    Index("bulksms_scheduled_idx", "scheduled_for", postgresql_where=text("status = 'scheduled'")),
    Index(
        "bulksms_requested_idx",
        "run_requested_at",
        postgresql_where=text("status IN ('created', 'scheduled') AND run_requested_at IS NOT NULL"),
    ),
    Index("bulksms_running_idx", "id", postgresql_where=text("status IN ('inprogress', 'paused')")),
    Index("bulksms_retry_of_idx", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
    Index(
        "bulksms_ended_idx",
        "completed_at",
        postgresql_where=text("completed_at IS NOT NULL AND purged_at IS NULL"),
    ),
    Index("bulksms_purge_pending_idx", "id", postgresql_where=text("purge_pending")),
    Index("bulksms_cancelled_idx", "id", postgresql_where=text("status = 'cancelled' AND completed_at IS NULL")),
)

# One row per contact, written before the campaign starts and updated in place. No foreign key: rows are only inserted
# in the transaction that inserts their campaign, and checking the key would triple the cost of the COPY.
bulksms_info = Table(
    "bulksms_info",
    metadata,
    Column("bulksms_id", Uuid, primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("contact_number", Text, nullable=False),
    Column("contact_name", Text, nullable=False),
    Column("fields", ARRAY(Text)),  # values of the message's placeholders, in their order
    Column("sms_status", Enum(*SmsStatus, name="sms_status"), nullable=False, server_default=SmsStatus.QUEUED),
    Column("sms_cost", _CREDITS, nullable=False),
    Column("error_code", Text),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("modified_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    CheckConstraint("sms_cost >= 0 AND sms_cost < 'Infinity'", name="bulksms_info_cost"),
)

bulksms_rejected = Table(
    "bulksms_rejected",
    metadata,
    Column("bulksms_id", Uuid, primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

# A batch is a range of seq. Its state is committed before and after each call of the carrier.
bulksms_batch = Table(
    "bulksms_batch",
    metadata,
    Column("bulksms_id", Uuid, ForeignKey("bulksms.id"), primary_key=True),
    Column("batch_no", Integer, primary_key=True, autoincrement=False),
    Column("first_seq", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False),
    Column(
        "state",
        Enum("pending", "submitting", "submitted", "unknown", "refused", "closed", name="batch_state"),
        nullable=False,
        server_default="pending",
    ),
    Column("attempt", Integer, nullable=False, server_default=_ZERO),
    Column("due_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("submitted_at", DateTime(timezone=True)),
    Column("error", Text),
    Column("uncertain", Boolean, nullable=False, server_default=false()),  # a call ended without a response
    Column("refused", Integer, nullable=False, server_default=_ZERO),  # messages that the carrier refused
    Index(
        "bulksms_batch_open_idx",
        "bulksms_id",
        "batch_no",
        postgresql_where=text("state IN ('pending', 'submitting')"),
    ),
    Index("bulksms_batch_silent_idx", "submitted_at", postgresql_where=text("state IN ('submitted', 'unknown')")),
)

# Charges and releases, written in the transaction that causes them; `reference` identifies them in ds.
outbox = Table(
    "outbox",
    metadata,
    Column("reference", Uuid, primary_key=True, server_default=text("uuidv7()")),
    Column("workspace_id", Uuid, nullable=False),
    Column("bulksms_id", Uuid, ForeignKey("bulksms.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", _CREDITS, nullable=False),
    Column("relay_count", Integer, nullable=False, server_default=_ZERO),
    Column("relay_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("settled_at", DateTime(timezone=True)),
    CheckConstraint("kind IN ('charge', 'release')", name="outbox_kind"),
    CheckConstraint("amount > 0 AND amount < 'Infinity'", name="outbox_amount"),
    Index("outbox_unsettled_idx", "relay_at", postgresql_where=text("settled_at IS NULL")),
)

# Responses by idempotency key, written in the transaction that performs the request.
idempotency = Table(
    "idempotency",
    metadata,
    Column("workspace_id", Uuid, primary_key=True),
    Column("operation", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False),  # a hash of the request
    Column("answer", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Index("idempotency_created_at_idx", "created_at"),
)

audit_log = audit_log_table(metadata)

# Days for which the personal data of a workspace's ended campaigns is kept, where it differs from RETENTION_DAYS.
workspace_retention = Table(
    "workspace_retention",
    metadata,
    Column("workspace_id", Uuid, primary_key=True),
    Column("days", Integer, nullable=False),  # 0: for ever
    CheckConstraint("days >= 0", name="workspace_retention_days"),
)
