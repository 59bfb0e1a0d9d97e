"""Authentication at the rpc node: a token in the metadata of each call, and TLS if certificates are set."""

import hmac
from pathlib import Path
from typing import Any, NamedTuple

import grpc

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


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses calls without the token, and binds the request id of the others."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode() if token else b""
        self._refusal: Any = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
        request_id.bind(metadata.get(request_id.METADATA, ""))
        token = metadata.get(_TOKEN, "").encode()
        is_open = details.method.startswith(_OPEN) and not token
        if self._expected and not is_open and not hmac.compare_digest(token, self._expected):
            return self._refusal
        return await continuation(details)


async def _refuse(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "the token is missing or wrong: set RPC_TOKEN to the node's token"
    )


def _pem(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
