"""Authentication at the rpc node: a token in the metadata of each call, and TLS if certificates are set."""

import hmac
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from common.auth.failed_attempts import FailedAttempts
from common.settings import Settings
from common.web import request_id

_TOKEN = "authorization"
_OPEN = "/grpc.health.v1.Health/"  # health checks need no token, as in the other services


class ClientSecurity(NamedTuple):
    """The token and certificates of a client (contents of PEM files); `ca` verifies the node."""

    token: str = ""
    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """The credentials of a TLS channel; None for a channel without TLS."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert) if self.ca else None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of a call: the token, and the id of the current request."""
        pairs = ((_TOKEN, f"Bearer {self.token}" if self.token else ""), (request_id.METADATA, request_id.current()))
        return tuple(pair for pair in pairs if pair[1])


def of_client(settings: Settings) -> ClientSecurity:
    """The client's security from the settings. Raises OSError if a file cannot be read."""
    return ClientSecurity(
        settings.rpc_token, _pem(settings.rpc_ca), _pem(settings.rpc_client_cert), _pem(settings.rpc_client_key)
    )


def server_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """The server's TLS credentials, mutual if a client CA is set; None without TLS. Raises OSError."""
    key, cert = _pem(settings.rpc_key), _pem(settings.rpc_cert)
    if key is None or cert is None:
        return None
    client_ca = _pem(settings.rpc_client_ca)
    return grpc.ssl_server_credentials([(key, cert)], client_ca, require_client_auth=client_ca is not None)


# A connection that makes no calls, with a token or without, ends; clients reconnect by themselves. Ours are pinged, so
# that one whose client has vanished ends as well. Messages are a few hundred bytes.
_SERVER_LIMITS = {
    "grpc.max_connection_age_ms": 3_600_000,
    "grpc.max_connection_age_grace_ms": 30_000,
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 10_000,
    "grpc.http2.min_ping_interval_without_data_ms": 10_000,
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.max_concurrent_streams": 1_000,
    "grpc.max_receive_message_length": 64 * 1024,
    "grpc.max_metadata_size": 16 * 1024,
}


def server_options(idle: float) -> list[tuple[str, int]]:
    """The limits of the node's connections; `idle`: seconds without a call after which one is closed."""
    return list({**_SERVER_LIMITS, "grpc.max_connection_idle_ms": round(idle * 1000), "grpc.so_reuseport": 0}.items())


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without the token, and binds the request id of the others."""

    def __init__(self, token: str, attempts: FailedAttempts) -> None:
        self._attempts = attempts
        self._expected = f"Bearer {token}".encode() if token else b""
        self._refusal: Any = grpc.unary_unary_rpc_method_handler(self._refuse)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        request_id.bind(metadata.get(request_id.METADATA, ""))
        token = metadata.get(_TOKEN, "").encode()
        is_open = details.method.startswith(_OPEN) and not token
        if self._expected and not is_open and not hmac.compare_digest(token, self._expected):
            return self._refusal
        return await continuation(details)

    async def _refuse(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        refusal = "the token is missing or wrong: set RPC_TOKEN to the node's token"
        if self._attempts.add(context.peer().rpartition(":")[0]):
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"too many calls from this address: {refusal}")
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, refusal)


def _pem(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
