"""Pause, resume, cancel, schedule and retry of campaigns; responses by idempotency key."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE bulksms
            ADD COLUMN scheduled_for timestamptz,
            ADD COLUMN resumed_at    timestamptz,
            ADD COLUMN pause_reason  text,
            ADD COLUMN run_key       text,
            ADD COLUMN retry_of      uuid REFERENCES bulksms (id),
            ADD COLUMN unsent_count  integer NOT NULL DEFAULT 0,
            ADD COLUMN released      numeric(15, 1) NOT NULL DEFAULT 0,
            ADD CONSTRAINT bulksms_scheduled CHECK (status <> 'scheduled' OR scheduled_for IS NOT NULL)
    """)
    op.execute("DROP INDEX bulksms_unfinished_idx")
    op.execute(
        "CREATE INDEX bulksms_unfinished_idx ON bulksms (id) "
        "WHERE status IN ('created', 'scheduled', 'inprogress', 'paused')"
    )
    op.execute("CREATE INDEX bulksms_cancelled_idx ON bulksms (id) WHERE status = 'cancelled' AND completed_at IS NULL")
    op.execute("""
        ALTER TABLE bulksms_batch
            ADD COLUMN uncertain boolean NOT NULL DEFAULT false,
            ADD COLUMN refused   integer NOT NULL DEFAULT 0
    """)
    op.execute("""
        CREATE TABLE idempotency (
            workspace_id uuid,
            operation    text,
            key          text,
            digest       bytea NOT NULL,
            answer       bytea NOT NULL,
            created_at   timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (workspace_id, operation, key)
        )
    """)
    op.execute("CREATE INDEX idempotency_created_at_idx ON idempotency (created_at)")


def downgrade() -> None:
    op.execute("DROP TABLE idempotency")
    op.execute("ALTER TABLE bulksms_batch DROP COLUMN refused, DROP COLUMN uncertain")
    op.execute("DROP INDEX bulksms_cancelled_idx, bulksms_unfinished_idx")
    op.execute("CREATE INDEX bulksms_unfinished_idx ON bulksms (id) WHERE status IN ('created', 'inprogress')")
    op.execute("""
        ALTER TABLE bulksms
            DROP COLUMN released, DROP COLUMN unsent_count, DROP COLUMN retry_of, DROP COLUMN run_key,
            DROP COLUMN pause_reason, DROP COLUMN resumed_at, DROP COLUMN scheduled_for
    """)
