"""Alembic's entry to the migrations of ds."""

from common.migrations import run
from common.settings import load
from workspace.grants import GRANTS
from workspace.models import metadata

run(metadata, GRANTS, load().ds_dsn)
