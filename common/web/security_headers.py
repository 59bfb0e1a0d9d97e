"""Security headers of every HTTP response, in one ASGI middleware."""

from typing import Any

# Nothing of a JSON response may be run, framed or shown by a page. A page sets its own policy.
_POLICY = b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", _POLICY),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_NO_STORE = ((b"cache-control", b"no-store"),)
_CACHEABLE = ("/static/", "/docs")  # files of the service itself, without data of anyone
_RESPONSE_STARTS = ("http.response.start", "websocket.http.response.start")


class SecurityHeaders:
    """Adds the headers that a response does not have, to errors too; all but static files are `no-store`."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = _HEADERS if scope.get("path", "").startswith(_CACHEABLE) else (*_HEADERS, *_NO_STORE)

        async def send_with_headers(message: Any) -> None:
            if message["type"] in _RESPONSE_STARTS:
                own = list(message.get("headers", ()))
                present = {name.lower() for name, _ in own}
                message["headers"] = [*own, *(header for header in headers if header[0] not in present)]
            await send(message)

        await self._app(scope, receive, send_with_headers)
