"""Deletion of campaigns; no amount is NaN, which PostgreSQL holds greater than every number, or negative."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE bulksms ADD COLUMN deleted_at timestamptz")
    op.execute("CREATE INDEX bulksms_retry_of_idx ON bulksms (retry_of) WHERE retry_of IS NOT NULL")
    op.execute("""
        ALTER TABLE bulksms ADD CONSTRAINT bulksms_amounts CHECK (
            total_cost >= 0 AND charged >= 0 AND released >= 0
            AND total_cost < 'Infinity' AND charged < 'Infinity' AND released < 'Infinity'
        )
    """)
    op.execute(
        "ALTER TABLE bulksms_info ADD CONSTRAINT bulksms_info_cost CHECK (sms_cost >= 0 AND sms_cost < 'Infinity')"
    )
    op.execute(
        "ALTER TABLE outbox DROP CONSTRAINT outbox_amount, "
        "ADD CONSTRAINT outbox_amount CHECK (amount > 0 AND amount < 'Infinity')"
    )
    # Batches that were closed while a call was under way: their messages may have left.
    op.execute("""
        UPDATE bulksms_batch SET submitted_at = now()
        WHERE state = 'closed' AND submitted_at IS NULL AND attempt > 0 AND error IS DISTINCT FROM 'cancelled'
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP CONSTRAINT outbox_amount, ADD CONSTRAINT outbox_amount CHECK (amount > 0)")
    op.execute("ALTER TABLE bulksms_info DROP CONSTRAINT bulksms_info_cost")
    op.execute("DROP INDEX bulksms_retry_of_idx")
    op.execute("ALTER TABLE bulksms DROP CONSTRAINT bulksms_amounts, DROP COLUMN deleted_at")
