"""The tables of salesdb. The migrations make them; a test holds the two together."""

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from bulksms.status import CampaignStatus, SmsStatus

metadata = MetaData(naming_convention={"ck": "%(constraint_name)s"})

_NOW = text("now()")
_CREDITS = Numeric(15, 1)  # credits, in whole tenths
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
    Column("completed_at", DateTime(timezone=True)),
    CheckConstraint("row_count = contact_count + rejected_count + duplicate_count", name="bulksms_rows"),
    CheckConstraint(
        "contact_count = queued_count + sent_count + failed_count + delivered_count + undelivered_count",
        name="bulksms_contacts",
    ),
    Index("bulksms_workspace_id_idx", "workspace_id", "id"),
    Index("bulksms_unfinished_idx", "id", postgresql_where=text("status IN ('created', 'inprogress')")),
)

# One row a contact, filled before the campaign starts and updated in place. No foreign key: rows are only ever written
# in the transaction that writes their campaign, and checking it would treble the cost of the COPY.
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
)

bulksms_rejected = Table(
    "bulksms_rejected",
    metadata,
    Column("bulksms_id", Uuid, primary_key=True),
    Column("line", Integer, primary_key=True, autoincrement=False),
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
)

# A batch is a range of seq. What it has reached is committed before and after the carrier is called.
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
    Index(
        "bulksms_batch_open_idx",
        "bulksms_id",
        "batch_no",
        postgresql_where=text("state IN ('pending', 'submitting')"),
    ),
    Index("bulksms_batch_silent_idx", "submitted_at", postgresql_where=text("state IN ('submitted', 'unknown')")),
)

# The charge of a step and the release at the end, written with them; `reference` is what ds knows them by.
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
    CheckConstraint("amount > 0", name="outbox_amount"),
    Index("outbox_unsettled_idx", "relay_at", postgresql_where=text("settled_at IS NULL")),
)
