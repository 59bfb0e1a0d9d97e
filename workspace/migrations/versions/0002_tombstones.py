"""Allow reservations of 0, which block later reservations of a campaign that was cancelled before its start."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE reservation DROP CONSTRAINT reservation_amounts")
    op.execute(
        "ALTER TABLE reservation ADD CONSTRAINT reservation_amounts "
        "CHECK (amount >= 0 AND charged >= 0 AND released >= 0)"
    )


def downgrade() -> None:
    op.execute("DELETE FROM reservation WHERE amount = 0")
    op.execute("ALTER TABLE reservation DROP CONSTRAINT reservation_amounts")
    op.execute(
        "ALTER TABLE reservation ADD CONSTRAINT reservation_amounts "
        "CHECK (amount > 0 AND charged >= 0 AND released >= 0)"
    )
