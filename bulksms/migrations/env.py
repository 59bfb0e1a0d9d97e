"""Alembic's entry to the migrations of salesdb."""

from bulksms.grants import GRANTS
from bulksms.models import metadata
from common.migrations import run
from common.settings import load

run(metadata, GRANTS, load().salesdb_dsn)
