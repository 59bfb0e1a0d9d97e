"""What can go wrong between a client and a service, as people can act on it: what, where, and how to mend it."""

from decimal import Decimal
from typing import Any, NamedTuple

from common.settings import COMMAND


class Service(NamedTuple):
    """A web service, where it should be."""

    name: str
    url: str

    @property
    def settings(self) -> str:
        """The settings that say where it is."""
        return f"{self.name.upper()}_HOST and {self.name.upper()}_PORT"


class ClientError(Exception):
    """Something was not done: `what`, `where`, and `how` to mend it, where that is known."""

    def __init__(self, what: str, where: str, how: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.how = how


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
    """A service has answered, and it is no success: its problem details (RFC 9457) in words."""

    def __init__(self, service: Service, asked: str, status: int, problem: dict[str, Any], retry_after: float) -> None:
        title = problem.get("title") or f"{service.name} answered {status}"
        detail = problem.get("detail")
        super().__init__(
            f"{title}: {detail}" if detail else str(title),
            f"{asked} answered {status}",
            _how(service, status, problem, retry_after),
        )
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


def _how(service: Service, status: int, problem: dict[str, Any], retry_after: float) -> str:
    """What mends it, where the answer's own detail cannot know the command for that."""
    if status == 402 and "needed" in problem and "available" in problem:
        missing = Decimal(problem["needed"]) - Decimal(problem["available"])
        return f"`{COMMAND} topup {missing}`, then `{COMMAND} run ID`"
    if status in (429, 503):
        return f"try again in {retry_after:g} s"
    return {
        401: "set API_KEY to a key of the workspace, in the environment or in .env",
        403: "set API_KEY to a key that may do this, in the environment or in .env",
        404: f"`{COMMAND} campaigns` lists what there is; --workspace or WORKSPACE names another workspace",
        409: f"`{COMMAND} campaign ID` shows where it stands",
        500: f"the log of {service.name} says more",
    }.get(status, "")
