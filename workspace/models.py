"""The tables of ds. The migrations create them; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Numeric,
    Table,
    Text,
    Uuid,
    text,
)

from common.audit_log_table import audit_log_table

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(constraint_name)s",
    }
)

_NOW = text("now()")
_CREDITS = Numeric(15, 1)  # credits, in whole tenths; NaN, which is above Infinity, is refused by the CHECKs

workspace = Table(
    "workspace",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("uuidv7()")),
    Column("name", Text, nullable=False),
    Column("credit", _CREDITS, nullable=False, server_default=text("0")),
    Column("reserved", _CREDITS, nullable=False, server_default=text("0")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("modified_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    CheckConstraint(
        "0 <= reserved AND reserved <= credit AND credit < 'Infinity'", name="workspace_reserved_within_credit"
    ),
)

# The reserved credit of a campaign, and the charged and released part; 0 if it was cancelled before a reservation.
reservation = Table(
    "reservation",
    metadata,
    Column("campaign_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, ForeignKey("workspace.id"), nullable=False),
    Column("amount", _CREDITS, nullable=False),
    Column("charged", _CREDITS, nullable=False, server_default=text("0")),
    Column("released", _CREDITS, nullable=False, server_default=text("0")),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    CheckConstraint(
        "amount >= 0 AND charged >= 0 AND released >= 0 "
        "AND amount < 'Infinity' AND charged < 'Infinity' AND released < 'Infinity'",
        name="reservation_amounts",
    ),
)

# Every change of credit, once: `reference` is its idempotency key.
ledger = Table(
    "ledger",
    metadata,
    Column("reference", Text, primary_key=True),
    Column("workspace_id", Uuid, ForeignKey("workspace.id"), nullable=False),
    Column("campaign_id", Uuid),
    Column("kind", Text, nullable=False),
    Column("amount", _CREDITS, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    CheckConstraint("kind IN ('topup', 'reserve', 'charge', 'release')", name="ledger_kind"),
    CheckConstraint("amount > 0 AND amount < 'Infinity'", name="ledger_amount"),
    Index("ledger_workspace_id_idx", "workspace_id", "created_at"),
)

# API keys; an operator's key has no workspace. Only a hash of the secret is stored.
api_key = Table(
    "api_key",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("uuidv7()")),
    Column("workspace_id", Uuid, ForeignKey("workspace.id")),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("rotated_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    CheckConstraint("octet_length(secret_hash) = 32", name="api_key_secret_hash"),
)

audit_log = audit_log_table(metadata)
