"""The table of the audit log, the same in both databases. What is in it, and how it is used: `common.audit_log`.

Apart from it, because only migrations and tests need SQLAlchemy.
"""

from sqlalchemy import CheckConstraint, Column, DateTime, Index, MetaData, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB


def audit_log_table(metadata: MetaData) -> Table:
    """Add the table to the tables of a database. A trigger refuses UPDATE, DELETE and TRUNCATE."""
    return Table(
        "audit_log",
        metadata,
        Column("id", Uuid, primary_key=True, server_default=text("uuidv7()")),
        Column("at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
        Column("role", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("key_id", Uuid),
        Column("workspace_id", Uuid),
        Column("address", Text, nullable=False),
        Column("request_id", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("object_id", Uuid),
        Column("outcome", Text, nullable=False),
        Column("details", JSONB, nullable=False),
        CheckConstraint("role IN ('operator', 'workspace', 'console', 'worker')", name="audit_log_role"),
        CheckConstraint(
            "octet_length(name) + octet_length(address) + octet_length(request_id) + octet_length(action)"
            " + octet_length(outcome) + octet_length(details::text) <= 4000",
            name="audit_log_size",
        ),
        Index("audit_log_workspace_id_idx", "workspace_id", "id"),
        Index("audit_log_object_id_idx", "object_id", "id"),
    )
