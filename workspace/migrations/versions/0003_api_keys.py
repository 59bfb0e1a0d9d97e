"""API keys: hash of the secret, workspace, and times of creation, rotation and revocation."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE api_key (
            id           uuid PRIMARY KEY DEFAULT uuidv7(),
            workspace_id uuid REFERENCES workspace (id),
            secret_hash  bytea NOT NULL,
            created_at   timestamptz NOT NULL DEFAULT now(),
            rotated_at   timestamptz,
            revoked_at   timestamptz,
            CONSTRAINT api_key_secret_hash CHECK (octet_length(secret_hash) = 32)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE api_key")
