"""Who may call: every request but a few has a principal, known by the key in `Authorization: Bearer`."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection, Request

from common.auth.loopback import is_loopback, require
from common.auth.principal import Principal
from common.auth.rate_limit import Limiter
from common.observability.logs import Throttle
from common.redis import REDIS_GONE
from common.retry import backoff
from common.settings import COMMAND
from common.web.problems import Problem, unavailable

log = structlog.get_logger()

# Whose key it is ('' for none), None if nobody's; raises whatever keeps it from knowing.
Verify = Callable[[str], Awaitable[Principal | None]]

_PUBLIC = ("/health", "/ready", "/metrics", "/openapi.json", "/docs", "/docs/")
_LONGEST_KEY = 200
_MOST_KNOWN = 10_000
_LONGEST_KNOWN = 55.0  # seconds since it was last verified: with a request under way, less than a minute
_PAUSE = 2.0  # seconds until a key is asked for again that was refused, or could not be verified

_MEND = f"make a key with `{COMMAND} key create --operator`"


class _Known(NamedTuple):
    """What was said of a key; times by time.monotonic()."""

    principal: Principal | None
    at: float
    ask_again: float


class Keyring:
    """Knows whose a key is: asks `verify`, and remembers what it said for `ttl` seconds.

    While nobody can tell, whoever was known stays known for a minute in all; nobody else comes in. `host` is where the
    service listens: only on loopback is no key needed while none has been made.
    """

    def __init__(self, verify: Verify, host: str, ttl: float) -> None:
        self._verify = verify
        self._host = host
        self.ttl = ttl
        self._known: dict[str, _Known] = {}
        self._may_log = Throttle()

    async def principal(self, key: str) -> Principal:
        """Whose key this is ('' for none). Raises Problem: 401, or 503 while nobody can tell."""
        if len(key) > _LONGEST_KEY:
            raise _unauthorized(key)
        known = self._known.get(key)
        if known is None or known.ask_again < time.monotonic():
            known = await self._ask(key, known)
        if known.principal is None:
            raise _unauthorized(key)
        return known.principal

    async def _ask(self, key: str, before: _Known | None) -> _Known:
        try:
            principal = await self._verify(key)
        except Exception as error:  # whatever it is: while nobody can tell, nobody new comes in
            if self._may_log():
                log.warning("keys cannot be verified", reason=str(error) or type(error).__name__)
            now = time.monotonic()
            if before is None or before.principal is None or before.at + _LONGEST_KNOWN < now:
                raise unavailable("nobody can tell now whose key this is") from None
            known = before._replace(ask_again=now + _PAUSE)
        else:
            if principal and not principal.key_id and not is_loopback(self._host):
                principal = None
            now = time.monotonic()
            known = _Known(principal, now, now + (self.ttl if principal else min(self.ttl, _PAUSE)))
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = known
        return known

    async def protect(self) -> None:
        """Before listening: return when it is known that there are keys; on loopback, at once.

        Raises UnprotectedError where there are none and other machines could come in.
        """
        if not is_loopback(self._host):
            require(self._host, not await self._is_open(), "this service", _MEND)

    async def warn_if_open(self) -> None:
        """Log once, as soon as that is known, that no key is needed."""
        if is_loopback(self._host) and await self._is_open():
            log.warning(f"no key is needed, since none has been made: whoever reaches {self._host} may do all; {_MEND}")

    async def _is_open(self) -> bool:
        """Whether no key is needed, as soon as that is known."""
        for delay in backoff():
            try:
                return await self._verify("") is not None
            except Exception as error:
                log.debug("waiting to see whether there are keys", reason=str(error))
            await asyncio.sleep(delay)
        raise AssertionError("backoff has no end")


class Access:
    """ASGI middleware: finds the principal of each HTTP request, and how many requests it has left.

    `public`: paths that need no key, beside those that never do; one that ends in / stands for all below it.
    `strict`: endings of paths that are refused while the limit cannot be checked; the others are let through.
    A WebSocket has its own way in, since a browser cannot send it a header.
    """

    def __init__(
        self,
        app: Any,
        keyring: Keyring,
        limiter: Limiter,
        *,
        public: tuple[str, ...] = (),
        strict: tuple[str, ...] = (),
    ) -> None:
        self._app = app
        self._keyring = keyring
        self._limiter = limiter
        self._public = frozenset((*_PUBLIC, *public))
        self._below = tuple(path for path in self._public if path.endswith("/") and path != "/")
        self._strict = strict
        self._may_log = Throttle()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if scope["type"] == "http" and path not in self._public and not path.startswith(self._below):
            try:
                connection = HTTPConnection(scope)
                principal = await self._keyring.principal(bearer(connection))
                refuse_pages_from_elsewhere(principal, connection)
                await self._limit(principal, path)
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    async def _limit(self, principal: Principal, path: str) -> None:
        if principal.key_id is None:
            return
        try:
            await self._limiter.take(principal.key_id)
        except REDIS_GONE as error:
            if path.endswith(self._strict):
                raise unavailable("the limit of requests cannot be checked") from None
            if self._may_log():
                log.warning("the limit of requests is not checked", reason=str(error) or type(error).__name__)


def caller(request: Request) -> Principal:
    """Who makes the request."""
    principal: Principal = request.state.principal
    return principal


def bearer(connection: HTTPConnection) -> str:
    """The key in the header `Authorization: Bearer <key>` (RFC 6750); empty if there is none."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def refuse_pages_from_elsewhere(principal: Principal, connection: HTTPConnection) -> None:
    """While no key is needed, a browser on this machine must not be led here by a page from elsewhere.

    Its page may call any address, and its server's name may be made to mean this machine; both show in the headers.
    Raises Problem 403.
    """
    if principal.key_id is not None:
        return
    host, origin = connection.headers.get("host"), connection.headers.get("origin")
    for address in (host and f"//{host}", origin):
        if address and not is_loopback(_hostname(address)):
            raise Problem(403, "Not from there", f"without a key only this machine may call, as localhost; {_MEND}")


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return address


def _unauthorized(key: str) -> Problem:
    if not key:
        return Problem(
            401,
            "Key needed",
            f"send the header Authorization: Bearer <key>, with a key that `{COMMAND} key create` has made",
            headers={"WWW-Authenticate": 'Bearer realm="bulksms"'},
        )
    return Problem(
        401,
        "Key not valid",
        "this key is not known or was revoked; ask an operator for another",
        headers={"WWW-Authenticate": 'Bearer realm="bulksms", error="invalid_token"'},
    )
