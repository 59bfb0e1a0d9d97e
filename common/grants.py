"""What each process's database role may do; each domain's `grants.py` is its list, and every migration run applies it.

The roles themselves are made by an administrator (local/roles.sql), since that takes rights that a migration should not
have. Where a role does not exist, such as on a server with one user for all processes, nothing is granted to it.
"""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

Grants: TypeAlias = Mapping[str, Mapping[str, str]]
"""By process: for each of its tables the privileges, in SQL."""


def role(process: str) -> str:
    """The database role of a process."""
    return f"bulksms_{process}"


def statements(grants: Grants) -> Iterable[str]:
    """The statements that give each existing role its privileges on the existing tables, and no others."""
    for process, tables in grants.items():
        granted = "\n".join(
            f"        IF to_regclass('public.{table}') IS NOT NULL THEN\n"
            f"            GRANT {privileges} ON public.{table} TO {role(process)};\n        END IF;"
            for table, privileges in tables.items()
        )
        yield (
            "DO $$ BEGIN\n"
            f"    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{role(process)}') THEN\n"
            f"        REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role(process)};\n"
            f"        GRANT USAGE ON SCHEMA public TO {role(process)};\n"
            f"{granted}\n    END IF;\nEND $$"
        )
