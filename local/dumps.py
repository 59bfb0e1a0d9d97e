"""Regenerates `ds_dump.sql` and `salesdb_dump.sql`: schema, alembic version and sample data (`make dumps`).

The sections come from pg_dump, and are combined so that a dump can be loaded before the migrations, after them, or
twice: an existing schema is skipped, and existing rows stay unchanged.
"""

import re
import tempfile

from common.settings import ROOT, load
from local.launcher import System
from local.servers import pg_run

_DS = """
    INSERT INTO workspace (id, name, credit, created_at, modified_at)
    VALUES ('00000000-0000-7000-8000-000000000001', 'University of Oulu', 1000, '2024-01-01Z', '2024-01-01Z');
    INSERT INTO ledger (reference, workspace_id, kind, amount, created_at)
    VALUES ('opening:00000000-0000-7000-8000-000000000001', '00000000-0000-7000-8000-000000000001', 'topup', 1000,
            '2024-01-01Z');
"""

_SALESDB = """
    INSERT INTO bulksms (id, name, workspace_id, message, encoding, segments, row_count, contact_count, rejected_count,
                         duplicate_count, total_cost, queued_count, created_at, modified_at)
    VALUES ('00000000-0000-7000-8000-000000000002', 'A sample, not yet run', '00000000-0000-7000-8000-000000000001',
            'Welcome to Oulu, {Contact Name}!', 'GSM-7', 1, 2, 2, 0, 0, 0.2, 2, '2024-01-01Z', '2024-01-01Z');
    INSERT INTO bulksms_info (bulksms_id, seq, contact_number, contact_name, fields, sms_cost, created_at, modified_at)
    VALUES ('00000000-0000-7000-8000-000000000002', 0, '+358400000001', 'Aino', '{Aino}', 0.1, '2024-01-01Z',
            '2024-01-01Z'),
           ('00000000-0000-7000-8000-000000000002', 1, '+358400000002', 'Onni', '{Onni}', 0.1, '2024-01-01Z',
            '2024-01-01Z');
"""


def main() -> None:
    """Migrate empty databases, insert the sample data, dump them."""
    with tempfile.TemporaryDirectory() as folder:
        system = System(load({"DATA_DIR": folder}), configured=set(), seed=False)
        try:
            system.start_servers()
            system.migrate()
            for dsn, sample, name in (
                (system.settings.ds_dsn, _DS, "ds_dump.sql"),
                (system.settings.salesdb_dsn, _SALESDB, "salesdb_dump.sql"),
            ):
                pg_run("psql", dsn, "-qX", "-v", "ON_ERROR_STOP=1", text=sample).check_returncode()
                (ROOT / name).write_text(dump(dsn))
                print(f"wrote {name}")
        finally:
            system.stop()


def dump(dsn: str) -> str:
    """Dump the database as a script for psql."""
    return (
        "-- Made by `make dumps` with pg_dump. Load it with psql: into an empty database, or one already migrated.\n\n"
        "SELECT to_regclass('public.alembic_version') IS NULL AS empty \\gset\n\\if :empty\n\n"
        + schema(dsn)
        + "\n"
        + _pg_dump(dsn, "--data-only", "--inserts", "--table=alembic_version")
        + "\n\\endif\n\n"
        + _pg_dump(dsn, "--data-only", "--inserts", "--on-conflict-do-nothing", "--exclude-table=alembic_version")
    )


def schema(dsn: str) -> str:
    """Dump the schema, without anything that differs between two equal databases."""
    return _pg_dump(dsn, "--schema-only")


def _pg_dump(dsn: str, *options: str) -> str:
    done = pg_run("pg_dump", dsn, "--no-owner", "--no-privileges", *options)
    done.check_returncode()
    text = re.sub(r"^(--.*|\\(un)?restrict .*)\n", "", done.stdout, flags=re.MULTILINE)
    return re.sub(r"\n{2,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    main()
