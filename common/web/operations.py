"""What a web service does on a method and a path: an entry makes both its route and its part of the document."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Response]]


class Text(NamedTuple):
    """An answer that is not JSON."""

    media_type: str


class Operation(NamedTuple):
    """What `endpoint` answers on a method and a path. Every part of the path in braces is a UUID.

    `answers`: by status, the type that is answered in JSON, or a Text; `problems`: the statuses of problem details, of
    a type of their own where `answers` has one. `body`: the type that is read, from JSON unless `media_type` says else.
    `query`: a struct with the parameters of the query. `headers`: those that may be sent beside, with their schemas.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    endpoint: Endpoint
    summary: str
    answers: Mapping[int, Any]
    problems: Sequence[int] = ()
    body: Any = None
    media_type: str = "application/json"
    query: type[msgspec.Struct] | None = None
    headers: Mapping[str, Mapping[str, Any]] = {}
    is_open: bool = False  # to whoever has no key

    @property
    def route(self) -> Route:
        """What answers it in a Starlette app."""
        return Route(self.path, self.endpoint, methods=[self.method])


def routes(operations: Iterable[Operation]) -> list[Route]:
    """The routes of these operations."""
    return [operation.route for operation in operations]
