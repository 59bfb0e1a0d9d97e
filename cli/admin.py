"""Commands of whoever runs the system, on ds itself: make workspaces, and make, rotate and revoke their keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import click
import msgspec

from common.database import Database
from common.money import MoneyError, parse_credits
from common.settings import COMMAND, Settings, SettingsError, load
from workspace import credit, keys
from workspace.credit import WorkspaceNotFoundError
from workspace.keys import KeyNotFoundError

T = TypeVar("T")

_LONGEST_NAME = 200


_as_json = click.option("--json", "as_json", is_flag=True, help="JSON on stdout, for scripts.")


@click.group("workspace")
def workspace_commands() -> None:
    """Make workspaces, in ds itself."""


@workspace_commands.command("create")
@click.argument("name")
@click.option("--credit", "opening", default="0", help="Credits it opens with.")
@_as_json
def create_workspace(name: str, opening: str, as_json: bool) -> None:
    """Make a workspace and its first key, which is shown this once."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise click.BadParameter(f"must have 1 to {_LONGEST_NAME} characters that can be shown", param_hint="NAME")
    try:
        amount = parse_credits(opening)
    except MoneyError as error:
        raise click.BadParameter(str(error), param_hint="--credit") from None
    if amount < 0:
        raise click.BadParameter("must not be below 0", param_hint="--credit")

    async def create(ds: Database) -> tuple[UUID, str]:
        made = await credit.create(ds, name, amount)
        return made.workspace_id, await keys.create(ds, made.workspace_id)

    workspace_id, key = _on_ds(create)
    _show({"workspace": workspace_id, "key": key}, as_json)
    _shown_once()


@click.group("key")
def key_commands() -> None:
    """Make, rotate, revoke and list API keys, in ds itself."""


@key_commands.command("create")
@click.argument("workspace", type=click.UUID, required=False)
@click.option("--operator", is_flag=True, help="A key that sees every workspace and adds credit.")
@_as_json
def create_key(workspace: UUID | None, operator: bool, as_json: bool) -> None:
    """Make a key of WORKSPACE (its id), or of an operator; it is shown this once."""
    if operator == (workspace is not None):
        raise click.UsageError("give the id of a workspace, or --operator")
    _show({"key": _on_ds(lambda ds: keys.create(ds, workspace))}, as_json)
    _shown_once()


@key_commands.command("rotate")
@click.argument("key_id", type=click.UUID)
@_as_json
def rotate_key(key_id: UUID, as_json: bool) -> None:
    """Give a key another secret, shown this once; the one it had stops within a minute."""
    _show({"key": _on_ds(lambda ds: keys.rotate(ds, key_id))}, as_json)
    _shown_once()


@key_commands.command("revoke")
@click.argument("key_id", type=click.UUID)
def revoke_key(key_id: UUID) -> None:
    """End a key for good; it stops within a minute."""
    _on_ds(lambda ds: keys.revoke(ds, key_id))
    click.echo(f"revoked {key_id}")


@key_commands.command("list")
@_as_json
def list_keys(as_json: bool) -> None:
    """Show every key that was ever made: whose it is, since when, until when."""
    found = _on_ds(keys.list_keys)
    if as_json:
        click.echo(msgspec.json.encode([key._asdict() for key in found]))
        return
    if not found:
        click.echo("no key was ever made: none is asked for, and the services listen on this machine only", err=True)
    for key in found:
        whose = f"workspace {key.workspace_id} ({key.workspace})" if key.workspace_id else "operator"
        times = f"made {key.created_at:%Y-%m-%d %H:%M}"
        times += f", rotated {key.rotated_at:%Y-%m-%d %H:%M}" if key.rotated_at else ""
        times += f", revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else ""
        click.echo(f"{key.id}  {whose}  {times}")


def _show(made: dict[str, object], as_json: bool) -> None:
    """What a command has made: a line for each, or JSON for scripts."""
    click.echo(msgspec.json.encode(made) if as_json else "\n".join(f"{name} {value}" for name, value in made.items()))


def _shown_once() -> None:
    click.echo("the key is shown this once, only a hash of it is kept: put it into API_KEY", err=True)


async def with_key(settings: Settings, work: Callable[[str], Awaitable[T]]) -> T:
    """What `work` returns, given an operator's key for as long as it runs; '' where none is needed."""

    async def lend(ds: Database) -> T:
        async with keys.temporary_key(ds) as key:
            return await work(key)

    return await _work(settings, lend)


def _on_ds(work: Callable[[Database], Awaitable[T]]) -> T:
    try:
        return asyncio.run(_work(load(), work))
    except (SettingsError, WorkspaceNotFoundError, KeyNotFoundError) as error:
        raise click.ClickException(str(error)) from None


async def _work(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    ds = Database("ds", settings.ds_dsn)
    await ds.open()
    try:
        try:
            await ds.check()
        except Exception as error:
            reason = f"ds does not answer at {ds.address} ({str(error) or type(error).__name__})"
            raise click.ClickException(f"{reason}: start it (`{COMMAND} up`), or say where it is with DS_DSN") from None
        return await work(ds)
    finally:
        await ds.close()
