"""Choose the protocol of a connection to salesapi by the first bytes of a request.

    new connection --> ConnectionProtocol -- POST /callback --> CallbackProtocol
                        |       ^                                     |
                        |       +------- a request for another -------+
                        |
                        +-- everything else --> BoundedHttp (uvicorn), to the connection's end

Thousands of callbacks arrive each second, and a carrier's connections carry nothing else. On a connection of uvicorn
`POST /callback` is served by an endpoint.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.server import ServerState

from common.web.protocol import SHUTDOWN_GRACE, TOO_SLOW, BoundedHttp, linger, raw
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_protocol import PREFIXES, CallbackProtocol


def protocol_factory(callback: Callback) -> Callable[..., asyncio.Protocol]:
    """The protocol factory for uvicorn; `callback` handles the callbacks."""

    def make(server_state: ServerState, request_timeout: float, **others: Any) -> asyncio.Protocol:
        def make_http() -> BoundedHttp:
            return BoundedHttp(server_state=server_state, request_timeout=request_timeout, **others)

        return ConnectionProtocol(callback, make_http, server_state, request_timeout)

    return make


def is_callback(received: bytes) -> bool | None:
    """Whether a request with these first bytes is a callback; None if more bytes are needed."""
    if received.startswith(PREFIXES):
        return True
    return None if any(prefix.startswith(received) for prefix in PREFIXES) else False


class ConnectionProtocol(asyncio.Protocol):
    """Reads the first bytes of a request and hands the connection over to the protocol that serves it.

    A client has `request_timeout` seconds to send them. A connection that is lost meanwhile, or whose client sends EOF,
    is closed.
    """

    def __init__(
        self,
        callback: Callback,
        make_http: Callable[[], BoundedHttp],
        server_state: ServerState,
        request_timeout: float,
    ) -> None:
        self._callback = callback
        self._make_http = make_http
        self._server = server_state
        self._request_timeout = request_timeout
        self._transport: Any = None
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None  # None: the connection is handed over, or refused
        self._is_stopping = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # only shutdown() is called on it
        self._timer = asyncio.get_running_loop().call_later(self._request_timeout, self._time_out)

    def connection_lost(self, error: Exception | None) -> None:
        self._release()

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            return  # ignore what a refused client still sends
        self._received += data
        callback = is_callback(self._received)
        if callback is not None:
            self._hand_over(self._callback_protocol() if callback else self._make_http())

    def shutdown(self) -> None:
        """Close an unused connection soon; a request that is being received is still answered."""
        self._is_stopping = True
        asyncio.get_running_loop().call_later(SHUTDOWN_GRACE, self._close_if_unused)

    def take_back(self, received: bytes, is_stopping: bool) -> None:
        """Choose again, for a request with these first bytes that is not a callback."""
        self._received = b""
        self._is_stopping = is_stopping
        self._transport.set_protocol(self)
        self.connection_made(self._transport)
        self.data_received(received)

    def _callback_protocol(self) -> CallbackProtocol:
        return CallbackProtocol(self._callback, self._server, self._request_timeout, self.take_back)

    def _hand_over(self, protocol: CallbackProtocol | BoundedHttp) -> None:
        self._release()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._is_stopping:
            protocol.shutdown()
        protocol.data_received(self._received)

    def _release(self) -> None:
        """Stop watching the connection."""
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self._received:
            self._transport.write(raw(TOO_SLOW, self._server.default_headers))
            linger(self._transport)
        else:
            self._transport.close()

    def _close_if_unused(self) -> None:
        if self._timer is not None and not self._received:
            self._transport.close()
