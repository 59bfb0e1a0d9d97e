"""Workspaces, their reservations and the ledger of every change of credit."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE workspace (
            id          uuid PRIMARY KEY DEFAULT uuidv7(),
            name        text NOT NULL,
            credit      numeric(15, 1) NOT NULL DEFAULT 0,
            reserved    numeric(15, 1) NOT NULL DEFAULT 0,
            version     bigint NOT NULL DEFAULT 1,
            created_at  timestamptz NOT NULL DEFAULT now(),
            modified_at timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT workspace_reserved_within_credit CHECK (0 <= reserved AND reserved <= credit)
        ) WITH (fillfactor = 50)
    """)
    op.execute("""
        CREATE TABLE reservation (
            campaign_id  uuid PRIMARY KEY,
            workspace_id uuid NOT NULL REFERENCES workspace (id),
            amount       numeric(15, 1) NOT NULL,
            charged      numeric(15, 1) NOT NULL DEFAULT 0,
            released     numeric(15, 1) NOT NULL DEFAULT 0,
            created_at   timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT reservation_amounts CHECK (amount > 0 AND charged >= 0 AND released >= 0)
        ) WITH (fillfactor = 50)
    """)
    op.execute("""
        CREATE TABLE ledger (
            reference    text PRIMARY KEY,
            workspace_id uuid NOT NULL REFERENCES workspace (id),
            campaign_id  uuid,
            kind         text NOT NULL,
            amount       numeric(15, 1) NOT NULL,
            created_at   timestamptz NOT NULL DEFAULT now(),
            CONSTRAINT ledger_kind CHECK (kind IN ('topup', 'reserve', 'charge', 'release')),
            CONSTRAINT ledger_amount CHECK (amount > 0)
        )
    """)
    op.execute("CREATE INDEX ledger_workspace_id_idx ON ledger (workspace_id, created_at)")


def downgrade() -> None:
    op.execute("DROP TABLE ledger, reservation, workspace")
