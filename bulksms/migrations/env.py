"""Alembic's entry to the migrations of salesdb."""

from bulksms.models import metadata
from common.migrations import run
from common.settings import load

run(metadata, load().salesdb_dsn)
