"""The WebSocket protocol with limits on what uvicorn leaves unbounded."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from common.web.protocol import LINGER, NOT_HTTP, raw

MOST_BYTES = 64 * 1024  # of a message
_MOST_FRAGMENTS = 100  # of a message


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol: answers invalid handshakes, limits fragments, and never queues several pongs."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self._pong = b""  # for the last pings, until the client reads

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            # The whole head was received and it is not a handshake: a POST, or a request with a body.
            self.transport.write(raw(NOT_HTTP, self.default_headers))
            self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) < _MOST_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message may have at most {_MOST_FRAGMENTS} fragments")
            self.handle_parser_exception()

    def handle_ping(self) -> None:
        """Answer only the last of several pings (RFC 6455, 5.5.3): none is queued for a client that does not read."""
        pongs = b"".join(self.conn.data_to_send())  # for all pings received with this one
        if not pongs:
            return
        self._pong = pongs
        if self.writable.is_set():
            self._write_pong()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._write_pong()

    def keepalive_timeout(self) -> None:
        """Disconnect a client that answers no ping, even if it does not read the close frame."""
        super().keepalive_timeout()
        self.loop.call_later(LINGER, self.transport.abort)

    def _write_pong(self) -> None:
        if self._pong and not self.transport.is_closing():
            self.transport.write(self._pong)
        self._pong = b""
