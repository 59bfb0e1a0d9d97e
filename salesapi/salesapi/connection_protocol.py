"""Which protocol a connection to salesapi speaks, decided by the first bytes of a request.

    new connection --> ConnectionProtocol -- POST /callback --> CallbackProtocol
                        |       ^                                     |
                        |       +------- a request for another -------+
                        |
                        +-- everything else --> BoundedHttp (uvicorn), to the connection's end

Thousands of callbacks come each second, and a carrier's connections carry nothing else. On a connection of uvicorn
`POST /callback` is answered too, by an endpoint.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.server import ServerState

from common.web.protocol import SHUTDOWN_GRACE, TOO_SLOW, BoundedHttp, linger, raw
from salesapi.salesapi.callback import Callback
from salesapi.salesapi.callback_protocol import BEGINNINGS, CallbackProtocol


def protocol_factory(callback: Callback) -> Callable[..., asyncio.Protocol]:
    """What uvicorn makes the protocol of a connection with; `callback` answers the callbacks."""

    def make(server_state: ServerState, request_timeout: float, **others: Any) -> asyncio.Protocol:
        def make_http() -> BoundedHttp:
            return BoundedHttp(server_state=server_state, request_timeout=request_timeout, **others)

        return ConnectionProtocol(callback, make_http, server_state, request_timeout)

    return make


def is_callback(beginning: bytes) -> bool | None:
    """Whether a request that begins like this is a callback; None if that is too short to tell."""
    if beginning.startswith(BEGINNINGS):
        return True
    return None if any(known.startswith(beginning) for known in BEGINNINGS) else False


class ConnectionProtocol(asyncio.Protocol):
    """Reads the beginning of a request and gives the connection to the protocol that the request needs.

    A client has `request_timeout` seconds for the beginning. A connection that is lost meanwhile, or whose client sends
    no more, is closed.
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
        self._beginning = b""
        self._timer: asyncio.TimerHandle | None = None  # None: the connection is given away, or refused
        self._is_stopping = False

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._server.connections.add(self)  # type: ignore[arg-type]  # it asks them for shutdown() only
        self._timer = asyncio.get_running_loop().call_later(self._request_timeout, self._time_out)

    def connection_lost(self, error: Exception | None) -> None:
        self._forget()

    def data_received(self, data: bytes) -> None:
        if self._timer is None:
            return  # what a client still sends that was refused
        self._beginning += data
        callback = is_callback(self._beginning)
        if callback is not None:
            self._give_to(self._for_callbacks() if callback else self._make_http())

    def shutdown(self) -> None:
        """The server ends: a request that is on its way is still answered."""
        self._is_stopping = True
        asyncio.get_running_loop().call_later(SHUTDOWN_GRACE, self._close_if_unused)

    def take_back(self, beginning: bytes, is_stopping: bool) -> None:
        """Decide again: the connection asks for something with this beginning that is not plainly a callback."""
        self._beginning = b""
        self._is_stopping = is_stopping
        self._transport.set_protocol(self)
        self.connection_made(self._transport)
        self.data_received(beginning)

    def _for_callbacks(self) -> CallbackProtocol:
        return CallbackProtocol(self._callback, self._server, self._request_timeout, self.take_back)

    def _give_to(self, protocol: CallbackProtocol | BoundedHttp) -> None:
        self._forget()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._is_stopping:
            protocol.shutdown()
        protocol.data_received(self._beginning)

    def _forget(self) -> None:
        """The connection is no longer ours."""
        self._server.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self._beginning:
            self._transport.write(raw(TOO_SLOW, self._server.default_headers))
            linger(self._transport)
        else:
            self._transport.close()

    def _close_if_unused(self) -> None:
        if self._timer is not None and not self._beginning:
            self._transport.close()
