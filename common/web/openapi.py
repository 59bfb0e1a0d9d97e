"""The OpenAPI document of a web service and its page, generated from the types of requests and responses.

A service lists its operations in a table, see `common.web.operations`. https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from common.web.operations import Operation, Text, routes
from common.web.problems import ProblemDetails
from common.web.refusals import Refusals

_REF = "#/components/schemas/"
_SWAGGER_UI = Path(__file__).with_name("swagger_ui")
_ANY_OPERATION = (400, 408, 431, 500, 503)  # invalid HTTP, too slow, headers too large, internal, dependency
_WITH_KEY = (401, 403, 429)  # of every operation that needs an API key
_REASONS = {
    400: "the request is malformed",
    401: "an API key or a signature is required",
    402: "not enough credit",
    403: "not allowed: while no API key exists, only requests from this machine are accepted",
    404: "not found",
    408: "the request was received too slowly",
    409: "not possible in the current state",
    410: "deleted: its retention has ended",
    413: "the body is too large",
    415: "the media type or encoding of the body is not supported",
    422: "the request is well-formed but cannot be processed",
    429: "the key's rate limit is exceeded: try again after Retry-After",
    431: "the headers are too large",
    500: "internal error",
    503: "a dependency does not answer, or a buffer is full: try again after Retry-After",
}


def documented_routes(
    title: str, description: str, operations: Sequence[Operation], refusals: Refusals
) -> list[BaseRoute]:
    """The routes of a service's operations and of their document; refused attempts at changes are recorded."""
    audited = [operation.audited(refusals) for operation in operations]
    return [*routes(audited), *_document_routes(document(title, description, operations))]


def document(title: str, description: str, operations: Sequence[Operation]) -> bytes:
    """Generate the document, as JSON."""
    types = _Types(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, types)
    return msgspec.json.encode(
        {
            "openapi": "3.1.1",
            "info": {"title": title, "version": "1", "description": description},
            "paths": paths,
            "components": {
                "schemas": types.components,
                "securitySchemes": {"bearerAuth": {"type": "http", "scheme": "bearer"}},
            },
            "security": [{"bearerAuth": []}, {}],
        }
    )


def _document_routes(generated: bytes) -> list[BaseRoute]:
    """The routes `/openapi.json` and `/docs`, which needs no internet: Swagger UI is in the folder of this file."""

    async def openapi(request: Request) -> Response:
        return Response(generated, media_type="application/json")

    async def docs(request: Request) -> Response:
        return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _PAGE_POLICY})

    async def script(request: Request) -> Response:
        return Response(_SCRIPT, media_type="text/javascript")

    return [
        Route("/openapi.json", openapi, include_in_schema=False),
        Route("/docs", docs, include_in_schema=False),
        Route("/docs/start.js", script, include_in_schema=False),
        Mount("/docs/assets", StaticFiles(directory=_SWAGGER_UI)),
    ]


class _Types:
    """The schemas of all types of some operations."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self._types = list(
            {
                kind: None
                for operation in operations
                for kind in (operation.body, operation.query, *operation.responses.values(), ProblemDetails)
                if kind is not None and not isinstance(kind, Text)
            }
        )
        self._schemas, self.components = msgspec.json.schema_components(self._types, ref_template=_REF + "{name}")
        self._parameters = {
            operation.query: self.components.pop(operation.query.__name__)
            for operation in operations
            if operation.query is not None and operation.query.__name__ in self.components
        }

    def schema(self, kind: Any) -> dict[str, Any]:
        return self._schemas[self._types.index(kind)]

    def parameters(self, query: type[msgspec.Struct]) -> dict[str, dict[str, Any]]:
        """The schema of each parameter of a query."""
        return {name: _without_null(schema) for name, schema in self._parameters[query]["properties"].items()}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove null from a schema: an optional parameter is left out, never null."""
    if "anyOf" not in schema:
        return schema
    (only,) = (choice for choice in schema["anyOf"] if choice != {"type": "null"})
    return dict(only)


def _described(operation: Operation, types: _Types) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    if operation.query is not None:
        named = types.parameters(operation.query).items()
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in named]
    parameters += [{"name": name, "in": "header", "schema": schema} for name, schema in operation.headers.items()]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": _identifier(operation),
        "parameters": parameters,
        "responses": _responses(operation, types),
    }
    if operation.body is not None:
        content = {operation.media_type: {"schema": types.schema(operation.body)}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.is_open:
        described["security"] = []
    return described


def _identifier(operation: Operation) -> str:
    return "_".join([operation.method.lower(), *re.findall(r"\w+", operation.path)])


def _responses(operation: Operation, types: _Types) -> dict[str, Any]:
    with_key = () if operation.is_open else _WITH_KEY
    problems = dict.fromkeys((*operation.problems, *_ANY_OPERATION, *with_key), ProblemDetails)
    responses = {**problems, **operation.responses}
    return {str(status): _response(status, kind, types) for status, kind in sorted(responses.items())}


def _response(status: int, kind: Any, types: _Types) -> dict[str, Any]:
    if kind is None:
        return {"description": "success"}
    if isinstance(kind, Text):
        return {"description": "success", "content": {kind.media_type: {"schema": {"type": "string"}}}}
    problem = isinstance(kind, type) and issubclass(kind, ProblemDetails)
    media_type = "application/problem+json" if problem else "application/json"
    return {"description": _REASONS.get(status, "success"), "content": {media_type: {"schema": types.schema(kind)}}}


_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>API</title><link rel="stylesheet" href="/docs/assets/swagger-ui.css"></head>
<body>
<div id="page"></div>
<script src="/docs/assets/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""

_SCRIPT = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#page", validatorUrl: null})'

# Swagger UI sets styles in attributes, and its images are data URLs.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
