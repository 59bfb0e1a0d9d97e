"""Who makes a request, and on which object, for the audit log."""

from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request

from common.audit_log import Actor
from common.auth.middleware import caller
from common.web import request_id


class Target(NamedTuple):
    """The object that a request names, and the workspace that owns it if the caller may know it."""

    object_id: UUID | None = None
    workspace_id: UUID | None = None


def actor(request: Request) -> Actor:
    """The caller, with the address and the id of the request."""
    principal = caller(request)
    return Actor(
        "operator" if principal.is_operator else "workspace",
        principal.key_id,
        principal.workspace_id,
        address=request.client.host if request.client else "",
        request_id=request_id.current(),
    )


def note_object(request: Request, object_id: UUID | str, workspace_id: UUID | None = None) -> None:
    """Note the object of the request, for the entry of the audit log if it is refused; text that is no id is not."""
    try:
        request.state.target = Target(UUID(str(object_id)), workspace_id)
    except ValueError:
        request.state.target = Target()


def target(request: Request) -> Target:
    """The object of the request, as far as it was noted."""
    noted: Target = getattr(request.state, "target", Target())
    return noted
