"""The principal of a request: the workspace or operator that its API key belongs to."""

from uuid import UUID

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """A workspace, or an operator, whose `workspace_id` is None.

    Until the first key is created, every caller is an operator without a key, and services listen on loopback only.
    """

    key_id: UUID | None
    workspace_id: UUID | None

    @property
    def is_operator(self) -> bool:
        return self.workspace_id is None

    def sees(self, workspace_id: UUID) -> bool:
        """Whether this principal may know that a workspace exists."""
        return self.workspace_id in (None, workspace_id)
