"""Commands on what is kept: the audit log, and the erasure of a phone number."""

from datetime import datetime
from typing import Any

from cli.session import Session


async def audit_log(
    session: Session, *, workspace: str | None, action: str | None, object_id: str | None, limit: int
) -> bool:
    """Show the newest entries of both services' audit logs, newest first."""
    query = {"workspace_id": workspace, "action": action, "object_id": object_id, "limit": str(limit)}
    entries = await session.api.audit_log(**{name: value for name, value in query.items() if value is not None})
    for entry in entries[:limit]:
        session.screen.say(_line(entry))
    session.screen.result(entries[:limit])
    return True


def _line(entry: dict[str, Any]) -> str:
    at = datetime.fromisoformat(entry["at"]).astimezone()
    who = f"{entry['role']} {entry['key_id'] or entry['name']}".strip()
    where = f" from {entry['address']}" if entry["address"] else ""
    details = ", ".join(f"{name} {value}" for name, value in entry["details"].items())
    return (
        f"{at:%Y-%m-%d %H:%M:%S}  {entry['action']} {entry['object_id'] or ''}  {entry['outcome']}  by {who}{where}"
        f"{f'  ({details})' if details else ''}"
    )


async def erase(session: Session, *, number: str, workspace: str | None) -> bool:
    """Erase a phone number, and show the receipt."""
    receipt = await session.api.erase(number, workspace)
    erased = ", ".join(f"{name} {count}" for name, count in receipt["erased"].items())
    session.screen.say(f"erased: {erased}")
    session.screen.say(f"receipt {receipt['id']} of {receipt['at']}, proof {receipt['proof']}: keep both")
    session.screen.result(receipt)
    return True
