"""Who calls: what a service knows of whoever sent it a key."""

from uuid import UUID

import msgspec


class Principal(msgspec.Struct, frozen=True):
    """A workspace, or an operator, who is tied to none.

    While no key has been made at all, everyone is an operator without a key: then a service listens on loopback only.
    """

    key_id: UUID | None
    workspace_id: UUID | None

    @property
    def is_operator(self) -> bool:
        return self.workspace_id is None

    def sees(self, workspace_id: UUID) -> bool:
        """Whether a workspace exists, as far as this caller is to know."""
        return self.workspace_id in (None, workspace_id)
