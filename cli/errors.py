"""Errors between a client and a service, for people: what is wrong, where, and how to fix it."""

from decimal import Decimal
from typing import Any, NamedTuple

from common.settings import COMMAND


class Service(NamedTuple):
    """A web service and its URL."""

    name: str
    url: str

    @property
    def settings(self) -> str:
        """The settings of its address."""
        return f"{self.name.upper()}_HOST and {self.name.upper()}_PORT"


class ClientError(Exception):
    """A command failed: `problem`, `where`, and `remedy` if one is known."""

    def __init__(self, problem: str, where: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.where = where
        self.remedy = remedy


class NotAnsweringError(ClientError):
    """A service cannot be reached."""

    def __init__(self, service: Service, reason: str) -> None:
        super().__init__(
            f"{service.name} does not answer: {reason}",
            service.url,
            f"`{COMMAND} up` starts everything, `{COMMAND} {service.name} serve` only this service; "
            f"if it listens elsewhere, set {service.settings}",
        )


class RefusedError(ClientError):
    """A service answered with an error; made of its problem details (RFC 9457)."""

    def __init__(
        self, service: Service, request: str, status: int, details: dict[str, Any], retry_after: float
    ) -> None:
        title = details.get("title") or f"{service.name} answered {status}"
        detail = details.get("detail")
        super().__init__(
            f"{title}: {detail}" if detail else str(title),
            f"{request} answered {status}",
            _remedy(service, status, details, retry_after),
        )
        self.status = status
        self.details = details
        self.retry_after = retry_after


def _remedy(service: Service, status: int, details: dict[str, Any], retry_after: float) -> str:
    """Name the command or setting that fixes the error, which the service itself cannot know."""
    if status == 402 and "needed" in details and "available" in details:
        missing = Decimal(details["needed"]) - Decimal(details["available"])
        return f"`{COMMAND} topup {missing}`, then `{COMMAND} run ID`"
    if status in (429, 503):
        return f"try again in {retry_after:g} s"
    return {
        401: "set API_KEY to a key of the workspace, in the environment or in .env",
        403: "set API_KEY to a key that may do this, in the environment or in .env",
        404: f"`{COMMAND} campaigns` lists the campaigns; choose another workspace with --workspace or WORKSPACE",
        409: f"`{COMMAND} campaign ID` shows its status",
        500: f"see the log of {service.name}",
    }.get(status, "")
