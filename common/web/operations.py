"""The operation table of a web service: one entry defines both a route and its part of the OpenAPI document."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from common.web.refusals import Endpoint, Refusals


class Text(NamedTuple):
    """A response that is not JSON."""

    media_type: str


class Operation(NamedTuple):
    """An endpoint at a method and a path. Every path parameter in braces is a UUID.

    `responses`: by status, the type of the JSON, a Text, or None for no body. `problems`: the statuses of problem
    details, of the type in `responses` if there is one. `body`: the type of the body, JSON unless `media_type` differs.
    `query`: a struct with the query parameters. `headers`: optional request headers with their schemas.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    endpoint: Endpoint
    summary: str
    responses: Mapping[int, Any]
    problems: Sequence[int] = ()
    body: Any = None
    media_type: str = "application/json"
    query: type[msgspec.Struct] | None = None
    headers: Mapping[str, Mapping[str, Any]] = {}
    is_open: bool = False  # needs no API key
    action: str = ""  # of an operation that changes something: its name in the audit log

    @property
    def route(self) -> Route:
        """Its route, if it is the only one at its path."""
        return routes([self])[0]

    def audited(self, refusals: Refusals) -> "Operation":
        """The operation whose refused attempts are recorded, if it changes something."""
        return self._replace(endpoint=refusals.around(self.action, self.endpoint)) if self.action else self


def routes(operations: Iterable[Operation]) -> list[Route]:
    """The routes of some operations, one for each path, so that a 405 lists all methods of the path."""
    paths: dict[str, dict[str, Endpoint]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation.endpoint
    return [Route(path, _by_method(endpoints), methods=list(endpoints)) for path, endpoints in paths.items()]


def _by_method(endpoints: Mapping[str, Endpoint]) -> Endpoint:
    """The endpoint of a path: the one of the request's method; HEAD is answered as GET."""
    if len(endpoints) == 1:
        return next(iter(endpoints.values()))

    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint
