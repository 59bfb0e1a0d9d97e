"""Campaigns, their contacts, batches and the outbox of charges."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE TYPE campaign_status AS ENUM ('created', 'scheduled', 'inprogress', 'paused', 'cancelled', 'completed')"
    )
    # The order of the labels is the order in which a message's status may move.
    op.execute("CREATE TYPE sms_status AS ENUM ('queued', 'failed', 'sent', 'undelivered', 'delivered')")
    op.execute("CREATE TYPE batch_state AS ENUM ('pending', 'submitting', 'submitted', 'unknown', 'refused', 'closed')")
    op.execute("""
        CREATE TABLE bulksms (
            id                uuid PRIMARY KEY,
            name              text NOT NULL,
            workspace_id      uuid NOT NULL,
            status            campaign_status NOT NULL DEFAULT 'created',
            message           text NOT NULL,
            encoding          text NOT NULL,
            segments          smallint NOT NULL,
            row_count         integer NOT NULL,
            contact_count     integer NOT NULL,
            rejected_count    integer NOT NULL,
            duplicate_count   integer NOT NULL,
            total_cost        numeric(15, 1) NOT NULL,
            charged           numeric(15, 1) NOT NULL DEFAULT 0,
            queued_count      integer NOT NULL,
            sent_count        integer NOT NULL DEFAULT 0,
            failed_count      integer NOT NULL DEFAULT 0,
            delivered_count   integer NOT NULL DEFAULT 0,
            undelivered_count integer NOT NULL DEFAULT 0,
            created_at        timestamptz NOT NULL DEFAULT now(),
            modified_at       timestamptz NOT NULL DEFAULT now(),
            run_requested_at  timestamptz,
            started_at        timestamptz,
            completed_at      timestamptz,
            CONSTRAINT bulksms_rows CHECK (row_count = contact_count + rejected_count + duplicate_count),
            CONSTRAINT bulksms_contacts CHECK (
                contact_count = queued_count + sent_count + failed_count + delivered_count + undelivered_count
            )
        ) WITH (fillfactor = 50)
    """)
    op.execute("CREATE INDEX bulksms_workspace_id_idx ON bulksms (workspace_id, id)")
    op.execute("CREATE INDEX bulksms_unfinished_idx ON bulksms (id) WHERE status IN ('created', 'inprogress')")
    # Room on each page for the new version of a row: no index holds the status, so updates stay on their page (HOT).
    op.execute("""
        CREATE TABLE bulksms_info (
            bulksms_id     uuid,
            seq            integer,
            contact_number text NOT NULL,
            contact_name   text NOT NULL,
            fields         text[],
            sms_status     sms_status NOT NULL DEFAULT 'queued',
            sms_cost       numeric(15, 1) NOT NULL,
            error_code     text,
            created_at     timestamptz NOT NULL DEFAULT now(),
            modified_at    timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (bulksms_id, seq)
        ) WITH (fillfactor = 60)
    """)
    op.execute("""
        CREATE TABLE bulksms_rejected (
            bulksms_id uuid,
            line       integer,
            value      text NOT NULL,
            reason     text NOT NULL,
            PRIMARY KEY (bulksms_id, line)
        )
    """)
    op.execute("""
        CREATE TABLE bulksms_batch (
            bulksms_id   uuid REFERENCES bulksms (id),
            batch_no     integer,
            first_seq    integer NOT NULL,
            last_seq     integer NOT NULL,
            state        batch_state NOT NULL DEFAULT 'pending',
            attempt      integer NOT NULL DEFAULT 0,
            due_at       timestamptz NOT NULL DEFAULT now(),
            submitted_at timestamptz,
            error        text,
            PRIMARY KEY (bulksms_id, batch_no)
        )
    """)
    op.execute(
        "CREATE INDEX bulksms_batch_open_idx ON bulksms_batch (bulksms_id, batch_no) "
        "WHERE state IN ('pending', 'submitting')"
    )
    op.execute(
        "CREATE INDEX bulksms_batch_silent_idx ON bulksms_batch (submitted_at) WHERE state IN ('submitted', 'unknown')"
    )
    op.execute("""
        CREATE TABLE outbox (
            reference    uuid PRIMARY KEY DEFAULT uuidv7(),
            workspace_id uuid NOT NULL,
            bulksms_id   uuid NOT NULL REFERENCES bulksms (id),
            kind         text NOT NULL,
            amount       numeric(15, 1) NOT NULL,
            relay_count  integer NOT NULL DEFAULT 0,
            relay_at     timestamptz NOT NULL DEFAULT now(),
            created_at   timestamptz NOT NULL DEFAULT now(),
            settled_at   timestamptz,
            CONSTRAINT outbox_kind CHECK (kind IN ('charge', 'release')),
            CONSTRAINT outbox_amount CHECK (amount > 0)
        )
    """)
    op.execute("CREATE INDEX outbox_unsettled_idx ON outbox (relay_at) WHERE settled_at IS NULL")


def downgrade() -> None:
    op.execute("DROP TABLE outbox, bulksms_batch, bulksms_rejected, bulksms_info, bulksms")
    op.execute("DROP TYPE batch_state, sms_status, campaign_status")
