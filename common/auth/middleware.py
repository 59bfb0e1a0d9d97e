"""Authentication of HTTP requests by the API key in `Authorization: Bearer`, and their rate limit."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import structlog
from starlette.requests import HTTPConnection, Request

from common.auth.failed_attempts import FailedAttempts
from common.auth.loopback import is_loopback, require
from common.auth.principal import Principal
from common.auth.rate_limit import Limiter
from common.observability.logs import Throttle
from common.retry import backoff
from common.settings import COMMAND
from common.web.problems import Problem, unavailable

log = structlog.get_logger()

# Returns the principal of a key ('' if no key was sent), None for an invalid key; raises if keys cannot be verified.
Verify = Callable[[str], Awaitable[Principal | None]]

_PUBLIC = ("/health", "/ready", "/metrics", "/openapi.json", "/docs", "/docs/")
_MAX_KEY_LENGTH = 200  # characters
_MAX_CACHED = 10_000  # keys
_MAX_STALE = 55.0  # seconds since the last verification: with the length of a request, less than a minute
_RETRY_INTERVAL = 2.0  # seconds until a key that was refused, or could not be verified, is verified again

_REMEDY = f"create a key with `{COMMAND} key create --operator`"


class _CachedKey(NamedTuple):
    """The result of a key's last verification; times by time.monotonic()."""

    principal: Principal | None
    verified_at: float
    expires_at: float


class Keyring:
    """Verifies API keys with `verify`, and caches each result for `ttl` seconds.

    While keys cannot be verified, a key that was valid stays valid for up to a minute; any other is refused. `host` is
    where the service listens: only on loopback are requests without a key accepted, until the first key is created, and
    of browsers only those of pages of this service and of `origins`. `attempts` brakes who guesses keys.
    """

    def __init__(
        self, verify: Verify, host: str, ttl: float, *, origins: Sequence[str], attempts: FailedAttempts
    ) -> None:
        self._verify = verify
        self._host = host
        self._origins = frozenset(origins)
        self._attempts = attempts
        self.ttl = ttl
        self._cache: dict[str, _CachedKey] = {}
        self._may_log = Throttle()

    async def principal(self, key: str, address: str) -> Principal:
        """Return the principal of a key ('' if none was sent) from a client's address.

        Raises Problem 401, 429 after many wrong keys from there, or 503 if it cannot be verified.
        """
        if len(key) > _MAX_KEY_LENGTH:
            raise self._refusal(key, address)
        cached = self._cache.get(key)
        if cached is None or cached.expires_at < time.monotonic():
            cached = await self._refresh(key, cached)
        if cached.principal is None:
            raise self._refusal(key, address)
        return cached.principal

    async def is_operator(self, connection: HTTPConnection) -> bool:
        """Whether a request, even to a public path, has the key of an operator."""
        key = bearer(connection)
        try:
            return bool(key) and (await self.principal(key, client_address(connection))).is_operator
        except Problem:
            return False

    def _refusal(self, key: str, address: str) -> Problem:
        wait = self._attempts.add(address) if key else 0
        return _too_many_failures(wait) if wait else _unauthorized(key)

    async def _refresh(self, key: str, before: _CachedKey | None) -> _CachedKey:
        try:
            principal = await self._verify(key)
        except Exception as error:  # whatever the reason, no new key is accepted
            if self._may_log():
                log.warning("API keys cannot be verified", reason=str(error) or type(error).__name__)
            now = time.monotonic()
            if before is None or before.principal is None or before.verified_at + _MAX_STALE < now:
                raise unavailable("API keys cannot be verified right now") from None
            cached = before._replace(expires_at=now + _RETRY_INTERVAL)
        else:
            if principal and not principal.key_id and not is_loopback(self._host):
                principal = None
            now = time.monotonic()
            cached = _CachedKey(principal, now, now + (self.ttl if principal else min(self.ttl, _RETRY_INTERVAL)))
        if len(self._cache) >= _MAX_CACHED:  # wrong keys must not push the valid ones out
            self._cache = {known: result for known, result in self._cache.items() if result.principal}
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        self._cache[key] = cached
        return cached

    def refuse_cross_origin(self, principal: Principal, connection: HTTPConnection) -> None:
        """Refuse requests of foreign pages in a browser on this machine, as long as no key is needed.

        A foreign page may call any address (seen in Origin), or rebind its own host name to this machine (seen in
        Host). A page of another port of this machine is foreign too. Raises Problem 403.
        """
        if principal.key_id is not None:
            return
        host, origin = connection.headers.get("host", ""), connection.headers.get("origin")
        is_here = not host or is_loopback(_hostname(f"//{host}"))
        own = (f"http://{host}", f"https://{host}")
        if not is_here or (origin is not None and origin not in own and origin not in self._origins):
            raise Problem(
                403,
                "Origin not allowed",
                "without an API key only requests from this machine, to localhost, are accepted, and only of pages of "
                f"this service and of DASHBOARD_ORIGINS; {_REMEDY}",
            )

    async def protect(self) -> None:
        """Before listening: wait until it is known that keys exist; return at once on loopback.

        Raises UnprotectedError if there are none and other machines could connect.
        """
        if not is_loopback(self._host):
            require(self._host, not await self._is_open(), "this service", _REMEDY)

    async def warn_if_open(self) -> None:
        """Log once that no key is needed, as soon as that is known."""
        if is_loopback(self._host) and await self._is_open():
            log.warning(f"no key is needed yet: anyone who can connect to {self._host} has full access; {_REMEDY}")

    async def _is_open(self) -> bool:
        """Whether no key is needed; waits until that is known."""
        for delay in backoff():
            try:
                return await self._verify("") is not None
            except Exception as error:
                log.debug("waiting to learn whether API keys exist", reason=str(error))
            await asyncio.sleep(delay)
        raise AssertionError("backoff has no end")


class Access:
    """ASGI middleware: authenticates each HTTP request and applies the rate limit of its key.

    `public`: further paths that need no key; one that ends in / includes all paths below it.
    `strict`: endings of paths that are refused while the rate limit cannot be checked; others are let through.
    WebSockets are authenticated elsewhere, since a browser cannot send a header with them.
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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if scope["type"] == "http" and path not in self._public and not path.startswith(self._below):
            try:
                connection = HTTPConnection(scope)
                principal = await self._keyring.principal(bearer(connection), client_address(connection))
                self._keyring.refuse_cross_origin(principal, connection)
                await self._limiter.take(principal, strict=path.endswith(self._strict))
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def caller(request: Request) -> Principal:
    """The principal that makes the request."""
    principal: Principal = request.state.principal
    return principal


def bearer(connection: HTTPConnection) -> str:
    """The key in the header `Authorization: Bearer <key>` (RFC 6750); empty if there is none."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def client_address(connection: HTTPConnection) -> str:
    """The IP address of the client, or of the proxy in front of us."""
    return connection.client.host if connection.client else ""


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return address


def _unauthorized(key: str) -> Problem:
    if not key:
        return Problem(
            401,
            "API key required",
            f"send the header Authorization: Bearer <key>, with a key from `{COMMAND} key create`",
            headers={"WWW-Authenticate": 'Bearer realm="bulksms"'},
        )
    return Problem(
        401,
        "API key not valid",
        "this key is unknown or was revoked; ask an operator for a new one",
        headers={"WWW-Authenticate": 'Bearer realm="bulksms", error="invalid_token"'},
    )


def _too_many_failures(wait: int) -> Problem:
    return Problem(
        429,
        "Too many wrong keys",
        f"too many keys that are not valid came from this address: try again in {wait} s, with a valid key at once",
        headers={"Retry-After": str(wait)},
    )
