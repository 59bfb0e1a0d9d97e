"""Partial indexes for the queries that the workers run every two seconds."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DROP INDEX bulksms_unfinished_idx")
    op.execute("CREATE INDEX bulksms_scheduled_idx ON bulksms (scheduled_for) WHERE status = 'scheduled'")
    op.execute(
        "CREATE INDEX bulksms_requested_idx ON bulksms (run_requested_at) "
        "WHERE status IN ('created', 'scheduled') AND run_requested_at IS NOT NULL"
    )
    op.execute("CREATE INDEX bulksms_running_idx ON bulksms (id) WHERE status IN ('inprogress', 'paused')")


def downgrade() -> None:
    op.execute("DROP INDEX bulksms_scheduled_idx, bulksms_requested_idx, bulksms_running_idx")
    op.execute(
        "CREATE INDEX bulksms_unfinished_idx ON bulksms (id) "
        "WHERE status IN ('created', 'scheduled', 'inprogress', 'paused')"
    )
