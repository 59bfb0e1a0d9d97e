"""The HTTP and WebSocket client of webapi and salesapi, one method for each operation; results are the decoded JSON."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, TypeAlias

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cli.errors import ClientError, NotAnsweringError, RefusedError, Service
from common.settings import Settings

# As in the response: amounts are decimal strings, in credits.
Campaign: TypeAlias = dict[str, Any]
Credit: TypeAlias = dict[str, Any]

# Seconds; a large upload is answered only when all of it is in the database.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)


class Api:
    """A client of both services, with the addresses and the API key in `settings`.

    Create it in a running event loop. Every method raises NotAnsweringError or RefusedError.
    """

    def __init__(self, settings: Settings) -> None:
        self.webapi = Service("webapi", f"http://{settings.webapi_host}:{settings.webapi_port}")
        self.salesapi = Service("salesapi", f"http://{settings.salesapi_host}:{settings.salesapi_port}")
        self._headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._http = aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT, trust_env=True)

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.close()

    # campaigns, at salesapi

    async def create(self, file: BinaryIO, file_name: str, **fields: str) -> dict[str, Any]:
        """Upload contacts; `fields`: name, message, workspace_id."""
        form = aiohttp.FormData(fields, quote_fields=False)  # names in plain UTF-8 (RFC 7578, 4.2)
        form.add_field("file", file, filename=file_name, content_type="text/csv")
        return await self._call(self.salesapi, "POST", "/create", data=form)

    async def run(self, bulksms_id: str, scheduled_for: str | None = None) -> Campaign:
        """Start a campaign, now or at a time in ISO 8601."""
        body = {"bulksms_id": bulksms_id}
        if scheduled_for is not None:
            body["scheduled_for"] = scheduled_for
        return await self._call(self.salesapi, "POST", "/run", json=body)

    async def control(self, bulksms_id: str, action: str) -> Campaign:
        """Pause, resume or cancel a campaign, as `action` says."""
        return await self._call(self.salesapi, "POST", f"/{action}", json={"bulksms_id": bulksms_id})

    async def retry_failed(self, bulksms_id: str) -> Campaign:
        """Create a campaign of the contacts that this one failed to reach."""
        return await self._call(self.salesapi, "POST", f"/bulksms/{bulksms_id}/retry-failed")

    async def delete(self, bulksms_id: str) -> None:
        """Delete a campaign that was not run or has ended."""
        async with self._request(self.salesapi, "DELETE", f"/bulksms/{bulksms_id}"):
            pass

    async def campaign(self, bulksms_id: str) -> Campaign:
        return await self._call(self.salesapi, "GET", f"/bulksms/{bulksms_id}")

    async def campaigns(self, workspace_id: str, limit: int) -> list[Campaign]:
        """The newest campaigns of a workspace, up to `limit`."""
        query = {"workspace_id": workspace_id, "limit": str(limit)}
        page = await self._call(self.salesapi, "GET", "/bulksms", params=query)
        campaigns: list[Campaign] = page["bulksms"]
        return campaigns

    async def contacts(self, bulksms_id: str) -> list[dict[str, Any]]:
        """The first contacts of a campaign."""
        page = await self._call(self.salesapi, "GET", f"/bulksms/{bulksms_id}/contacts")
        contacts: list[dict[str, Any]] = page["contacts"]
        return contacts

    async def rejected(self, bulksms_id: str) -> list[dict[str, Any]]:
        """The first rejected rows of the upload."""
        page = await self._call(self.salesapi, "GET", f"/bulksms/{bulksms_id}/rejected")
        rows: list[dict[str, Any]] = page["rejected"]
        return rows

    async def export(self, bulksms_id: str) -> AsyncIterator[bytes]:
        """Every contact of a campaign with its final status, as CSV, in chunks."""
        async with self._request(self.salesapi, "GET", f"/bulksms/{bulksms_id}/results.csv") as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def erase(self, number: str, workspace_id: str | None) -> dict[str, Any]:
        """Erase a phone number from everything stored; returns the receipt."""
        body = {"number": number} if workspace_id is None else {"number": number, "workspace_id": workspace_id}
        return await self._call(self.salesapi, "POST", "/erase", json=body)

    async def audit_log(self, **query: str) -> list[dict[str, Any]]:
        """The newest entries of the audit logs of both services, newest first."""
        merged: list[dict[str, Any]] = []
        for service in (self.webapi, self.salesapi):
            merged += (await self._call(service, "GET", "/audit", params=query))["entries"]
        return sorted(merged, key=lambda entry: str(entry["at"]), reverse=True)

    # credit, at webapi

    async def own_workspace(self) -> str | None:
        """The workspace of the API key; None for an operator's key, which sees several."""
        visible = (await self._call(self.webapi, "GET", "/workspaces"))["workspaces"]
        return str(visible[0]["workspace_id"]) if len(visible) == 1 else None

    async def credit(self, workspace_id: str) -> Credit:
        return await self._call(self.webapi, "GET", f"/workspaces/{workspace_id}")

    async def top_up(self, workspace_id: str, amount: str, reference: str | None = None) -> Credit:
        """Add credits; a repeated `reference` adds them only once."""
        body = {"amount": amount} if reference is None else {"amount": amount, "reference": reference}
        return await self._call(self.webapi, "POST", f"/workspaces/{workspace_id}/topup", json=body)

    async def credit_updates(self, workspace_id: str) -> AsyncIterator[Credit]:
        """The credit now and after every change, over the WebSocket; reconnects without end."""
        url = f"{self.webapi.url.replace('http', 'ws', 1)}/ws"
        try:
            async for socket in connect(url, additional_headers=self._headers):
                try:
                    await socket.send(json.dumps({"workspace_id": workspace_id}))
                    async for message in socket:
                        update = json.loads(message)
                        if "error" in update:
                            raise ClientError(update["error"], url)
                        yield update
                except ConnectionClosed:
                    pass
                await asyncio.sleep(1)
        except InvalidStatus as error:
            response = error.response
            raise RefusedError(self.webapi, url, response.status_code, _problem(response.body.decode()), 1) from None

    async def _call(self, service: Service, method: str, path: str, **content: Any) -> dict[str, Any]:
        async with self._request(service, method, path, **content) as response:
            body = await response.read()
        try:
            result: dict[str, Any] = json.loads(body)
        except ValueError:
            problem = f"the server at this address is not {service.name}: its response is not JSON"
            raise ClientError(problem, service.url, f"set {service.settings} to its address") from None
        return result

    @asynccontextmanager
    async def _request(
        self, service: Service, method: str, path: str, **content: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request, and open its response if it is a success."""
        try:
            async with self._http.request(method, service.url + path, allow_redirects=False, **content) as response:
                await _check(service, response)
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotAnsweringError(service, _reason(error)) from None


async def _check(service: Service, response: aiohttp.ClientResponse) -> None:
    """Raise RefusedError unless the response is a success."""
    if response.status < 300:
        return
    try:
        retry_after = float(response.headers.get("retry-after", 1))
    except ValueError:
        retry_after = 1.0
    problem = _problem(await response.text(errors="replace"))
    raise RefusedError(service, f"{response.method} {response.url}", response.status, problem, retry_after)


def _problem(text: str) -> dict[str, Any]:
    """The members of problem details; of any other text, its first 200 characters as the detail."""
    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"detail": text[:200]}


def _reason(error: aiohttp.ClientError | TimeoutError) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
