"""The audit log, which only grows."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE audit_log (
            id           uuid PRIMARY KEY DEFAULT uuidv7(),
            at           timestamptz NOT NULL DEFAULT clock_timestamp(),
            role         text NOT NULL,
            name         text NOT NULL,
            key_id       uuid,
            workspace_id uuid,
            address      text NOT NULL,
            request_id   text NOT NULL,
            action       text NOT NULL,
            object_id    uuid,
            outcome      text NOT NULL,
            details      jsonb NOT NULL,
            CONSTRAINT audit_log_role CHECK (role IN ('operator', 'workspace', 'console', 'worker')),
            CONSTRAINT audit_log_size CHECK (
                octet_length(name) + octet_length(address) + octet_length(request_id) + octet_length(action)
                + octet_length(outcome) + octet_length(details::text) <= 4000
            )
        )
    """)
    op.execute("CREATE INDEX audit_log_workspace_id_idx ON audit_log (workspace_id, id)")
    op.execute("CREATE INDEX audit_log_object_id_idx ON audit_log (object_id, id)")
    op.execute("""
        CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'audit_log is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
        END
        $$
    """)
    op.execute("""
        CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
        FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only()
    """)


def downgrade() -> None:
    op.execute("DROP TABLE audit_log")
    op.execute("DROP FUNCTION audit_log_is_append_only")
