"""No amount is NaN, which PostgreSQL holds greater than every number, or negative."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BEFORE = {
    ("workspace", "workspace_reserved_within_credit"): "0 <= reserved AND reserved <= credit",
    ("reservation", "reservation_amounts"): "amount >= 0 AND charged >= 0 AND released >= 0",
    ("ledger", "ledger_amount"): "amount > 0",
}
_AFTER = {
    ("workspace", "workspace_reserved_within_credit"): "0 <= reserved AND reserved <= credit AND credit < 'Infinity'",
    ("reservation", "reservation_amounts"): (
        "amount >= 0 AND charged >= 0 AND released >= 0 "
        "AND amount < 'Infinity' AND charged < 'Infinity' AND released < 'Infinity'"
    ),
    ("ledger", "ledger_amount"): "amount > 0 AND amount < 'Infinity'",
}


def upgrade() -> None:
    _replace(_AFTER)


def downgrade() -> None:
    _replace(_BEFORE)


def _replace(checks: dict[tuple[str, str], str]) -> None:
    for (table, name), condition in checks.items():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} CHECK ({condition})")
