"""Operator commands, directly on ds: create workspaces, and create, rotate, revoke and list API keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import click
import msgspec

from bulksms import retention
from common.audit_log import console
from common.database import Database
from common.money import MoneyError, parse_credits
from common.settings import COMMAND, Settings, SettingsError, load
from workspace import credit, keys
from workspace.credit import WorkspaceNotFoundError
from workspace.keys import KeyNotFoundError

T = TypeVar("T")

_MAX_NAME_LENGTH = 200


_as_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for scripts.")


@click.group("workspace")
def workspace_commands() -> None:
    """Create workspaces, directly in ds, and set how long their campaigns are kept."""


@workspace_commands.command("create")
@click.argument("name")
@click.option("--credit", "opening", default="0", help="Opening credit.")
@_as_json
def create_workspace(name: str, opening: str, as_json: bool) -> None:
    """Create a workspace and its first key, which is shown only once."""
    if not 1 <= len(name) <= _MAX_NAME_LENGTH or not name.isprintable():
        raise click.BadParameter(f"must have 1 to {_MAX_NAME_LENGTH} printable characters", param_hint="NAME")
    try:
        amount = parse_credits(opening)
    except MoneyError as error:
        raise click.BadParameter(str(error), param_hint="--credit") from None

    async def create(ds: Database) -> tuple[UUID, str]:
        workspace = await credit.create(ds, name, amount, console())
        return workspace.workspace_id, await keys.create(ds, workspace.workspace_id, console())

    workspace_id, key = _on_ds(create)
    _show({"workspace": workspace_id, "key": key}, as_json)
    _shown_once()


@workspace_commands.command("retention")
@click.argument("workspace", type=click.UUID)
@click.argument("days", type=click.IntRange(0, 36_500))
def set_retention(workspace: UUID, days: int) -> None:
    """Keep the contacts and texts of WORKSPACE's ended campaigns for DAYS instead of RETENTION_DAYS; 0: for ever."""

    async def check(ds: Database) -> None:
        await credit.get(ds, workspace)

    async def set_days(salesdb: Database) -> None:
        await retention.set_days(salesdb, workspace, days, console())

    _on_ds(check)
    _on(set_days, lambda settings: Database("salesdb", settings.salesdb_dsn))
    click.echo(f"workspace {workspace}: {f'{days} days' if days else 'for ever'}")


@click.group("key")
def key_commands() -> None:
    """Create, rotate, revoke and list API keys, directly in ds."""


@key_commands.command("create")
@click.argument("workspace", type=click.UUID, required=False)
@click.option("--operator", is_flag=True, help="A key that sees every workspace and adds credit.")
@_as_json
def create_key(workspace: UUID | None, operator: bool, as_json: bool) -> None:
    """Create a key for WORKSPACE (its id), or for an operator; it is shown only once."""
    if operator == (workspace is not None):
        raise click.UsageError("give either the id of a workspace or --operator")
    _show({"key": _on_ds(lambda ds: keys.create(ds, workspace, console()))}, as_json)
    _shown_once()


@key_commands.command("rotate")
@click.argument("key_id", type=click.UUID)
@_as_json
def rotate_key(key_id: UUID, as_json: bool) -> None:
    """Replace the secret of a key; the new one is shown only once, the old one stops working within a minute."""
    _show({"key": _on_ds(lambda ds: keys.rotate(ds, key_id, console()))}, as_json)
    _shown_once()


@key_commands.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """Revoke a key permanently; it stops working within a minute."""
    _on_ds(lambda ds: keys.revoke(ds, key_id, console()))
    click.echo(f"revoked {key_id}")


@key_commands.command("list")
@_as_json
def list_keys(as_json: bool) -> None:
    """List all keys, also revoked ones: owner, and times of creation, rotation and revocation."""
    listed = _on_ds(keys.list_keys)
    if as_json:
        click.echo(msgspec.json.encode([key._asdict() for key in listed]))
        return
    if not listed:
        click.echo(
            "there are no keys: none is needed, and the services accept requests from this machine only", err=True
        )
    for key in listed:
        owner = f"workspace {key.workspace_id} ({key.workspace})" if key.workspace_id else "operator"
        times = f"created {key.created_at:%Y-%m-%d %H:%M}"
        times += f", rotated {key.rotated_at:%Y-%m-%d %H:%M}" if key.rotated_at else ""
        times += f", revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        click.echo(f"{key.id}  {owner}  {times}")


def _show(result: dict[str, object], as_json: bool) -> None:
    """Print a result: a line for each value, or JSON for scripts."""
    lines = "\n".join(f"{name} {value}" for name, value in result.items())
    click.echo(msgspec.json.encode(result) if as_json else lines)


def _shown_once() -> None:
    click.echo("the key is shown only once, since only its hash is stored: set API_KEY to it", err=True)


async def with_key(settings: Settings, work: Callable[[str], Awaitable[T]]) -> T:
    """Run `work` with a temporary operator key, or with '' if no key is needed; return its result."""

    async def with_temporary_key(ds: Database) -> T:
        async with keys.temporary_key(ds, console()) as key:
            return await work(key)

    return await _run(_ds(settings), with_temporary_key)


def _on_ds(work: Callable[[Database], Awaitable[T]]) -> T:
    return _on(work, _ds)


def _on(work: Callable[[Database], Awaitable[T]], database: Callable[[Settings], Database]) -> T:
    try:
        return asyncio.run(_run(database(load()), work))
    except (SettingsError, WorkspaceNotFoundError, KeyNotFoundError) as error:
        raise click.ClickException(str(error)) from None


def _ds(settings: Settings) -> Database:
    return Database("ds", settings.ds_dsn)


async def _run(database: Database, work: Callable[[Database], Awaitable[T]]) -> T:
    await database.open()
    try:
        try:
            await database.check()
        except Exception as error:
            reason = f"{database.name} does not answer at {database.address} ({str(error) or type(error).__name__})"
            raise click.ClickException(
                f"{reason}: start it with `{COMMAND} up`, or set {database.name.upper()}_DSN to its address"
            ) from None
        return await work(database)
    finally:
        await database.close()
