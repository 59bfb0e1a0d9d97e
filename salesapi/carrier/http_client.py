"""The HTTP client of all adapters: it follows no redirect, inflates nothing, and reads a bounded response.

A carrier's server may be broken or taken over; numbers and texts must not go where it points, nor its response fill
our memory.
"""

from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from salesapi.carrier.port import CarrierRefusedError, CarrierUnavailableError, CarrierUnknownError

_MOST_BYTES = 4 * 1024 * 1024  # of a response: 10,000 rejections of a batch are below 2 MB
_NOT_TAKEN = (307, 308)


class Response(NamedTuple):
    """The response to a POST, which is no redirect."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CarrierClient:
    """Posts over persistent connections; `timeout` in seconds for a whole call."""

    def __init__(self, timeout: float) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Post a batch. Raises CarrierUnavailableError, CarrierRefusedError for 307 and 308, or CarrierUnknownError."""
        session = self._session = self._session or aiohttp.ClientSession(
            timeout=self._timeout, auto_decompress=False, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
        )
        headers = {**headers, "Accept-Encoding": "identity"}
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return await _bounded(response)
        except aiohttp.ClientConnectorError as error:
            raise CarrierUnavailableError(f"no connection: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CarrierUnknownError(f"no valid response: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


async def _bounded(response: aiohttp.ClientResponse) -> Response:
    """Read the response. A connection with an unread rest is closed, not used again."""
    if 300 <= response.status < 400:
        response.close()
        reason = f"{response.status}: redirects are not followed; CARRIER_URL must be the carrier's final address"
        # 307 and 308 ask to send the same request elsewhere (RFC 9110, 15.4), so this server has not taken it. After
        # the others, such as 303, it may have.
        raise CarrierRefusedError(reason) if response.status in _NOT_TAKEN else CarrierUnknownError(reason)
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        response.close()
        raise CarrierUnknownError(f"{response.status}: the response is compressed ({encoding[:20]}), which is not read")
    body = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        body += chunk
        if len(body) > _MOST_BYTES:
            response.close()
            raise CarrierUnknownError(f"{response.status}: the response has more than {_MOST_BYTES} bytes")
    return Response(response.status, response.headers, bytes(body))
