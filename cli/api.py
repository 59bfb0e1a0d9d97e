"""The HTTP and WebSocket calls to webapi and salesapi, one method each; answers are what the services say, as JSON."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, BinaryIO, TypeAlias

import httpx
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cli.errors import ClientError, NotAnsweringError, RefusedError, Service
from common.settings import Settings

# As the service says it: amounts are decimal strings, in credits.
Campaign: TypeAlias = dict[str, Any]
Credit: TypeAlias = dict[str, Any]

_TIMEOUT = httpx.Timeout(120, connect=5)  # seconds; a large upload is answered when it is all in the database


class Api:
    """A connection to both services at the addresses of `settings`, with its API key where there is one.

    Every method raises NotAnsweringError or RefusedError.
    """

    def __init__(self, settings: Settings) -> None:
        self.webapi = Service("webapi", f"http://{settings.webapi_host}:{settings.webapi_port}")
        self.salesapi = Service("salesapi", f"http://{settings.salesapi_host}:{settings.salesapi_port}")
        self._headers = {"Authorization": f"Bearer {settings.api_key}"} if settings.api_key else {}
        self._http = httpx.AsyncClient(headers=self._headers, timeout=_TIMEOUT)

    async def __aenter__(self) -> "Api":
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._http.aclose()

    # campaigns, at salesapi

    async def create(self, file: BinaryIO, file_name: str, **fields: str) -> dict[str, Any]:
        """Upload contacts; `fields`: name, message, workspace_id."""
        upload = {"file": (file_name, file, "text/csv")}
        return await self._call(self.salesapi, "POST", "/create", data=fields, files=upload)

    async def run(self, bulksms_id: str, scheduled_for: str | None = None) -> Campaign:
        """Start a campaign, now or at a time in ISO 8601."""
        asked = {"bulksms_id": bulksms_id}
        if scheduled_for is not None:
            asked["scheduled_for"] = scheduled_for
        return await self._call(self.salesapi, "POST", "/run", json=asked)

    async def control(self, bulksms_id: str, what: str) -> Campaign:
        """`what`: pause, resume or cancel."""
        return await self._call(self.salesapi, "POST", f"/{what}", json={"bulksms_id": bulksms_id})

    async def retry_failed(self, bulksms_id: str) -> Campaign:
        """A new campaign of the contacts that this one has failed to reach."""
        return await self._call(self.salesapi, "POST", f"/bulksms/{bulksms_id}/retry-failed")

    async def campaign(self, bulksms_id: str) -> Campaign:
        return await self._call(self.salesapi, "GET", f"/bulksms/{bulksms_id}")

    async def campaigns(self, workspace_id: str, limit: int) -> list[Campaign]:
        """The newest campaigns of a workspace, up to `limit`."""
        asked = {"workspace_id": workspace_id, "limit": str(limit)}
        found: list[Campaign] = (await self._call(self.salesapi, "GET", "/bulksms", params=asked))["bulksms"]
        return found

    async def contacts(self, bulksms_id: str) -> list[dict[str, Any]]:
        """The first contacts of a campaign."""
        found: list[dict[str, Any]] = (await self._call(self.salesapi, "GET", f"/bulksms/{bulksms_id}/contacts"))[
            "contacts"
        ]
        return found

    async def rejected(self, bulksms_id: str) -> list[dict[str, Any]]:
        """The first rows of the upload that were not taken."""
        found: list[dict[str, Any]] = (await self._call(self.salesapi, "GET", f"/bulksms/{bulksms_id}/rejected"))[
            "rejected"
        ]
        return found

    async def export(self, bulksms_id: str) -> AsyncIterator[bytes]:
        """Every contact of a campaign and what became of it, as CSV, in pieces."""
        path = f"/bulksms/{bulksms_id}/results.csv"
        try:
            async with self._http.stream("GET", self.salesapi.url + path) as answer:
                if answer.is_error:
                    await answer.aread()
                    _check(self.salesapi, answer)
                async for piece in answer.aiter_bytes():
                    yield piece
        except httpx.TransportError as error:
            raise NotAnsweringError(self.salesapi, _words(error)) from None

    # credit, at webapi

    async def own_workspace(self) -> str | None:
        """The one that the API key belongs to; None for an operator's key, which sees several."""
        seen = (await self._call(self.webapi, "GET", "/workspaces"))["workspaces"]
        return str(seen[0]["workspace_id"]) if len(seen) == 1 else None

    async def credit(self, workspace_id: str) -> Credit:
        return await self._call(self.webapi, "GET", f"/workspaces/{workspace_id}")

    async def top_up(self, workspace_id: str, amount: str, reference: str | None = None) -> Credit:
        """Add credits; the same `reference` adds them once."""
        asked = {"amount": amount} if reference is None else {"amount": amount, "reference": reference}
        return await self._call(self.webapi, "POST", f"/workspaces/{workspace_id}/topup", json=asked)

    async def credit_news(self, workspace_id: str) -> AsyncIterator[Credit]:
        """The credit now and at every change, over the WebSocket; connects again for as long as it takes."""
        url = f"{self.webapi.url.replace('http', 'ws', 1)}/ws"
        try:
            async for socket in connect(url, additional_headers=self._headers):
                try:
                    await socket.send(json.dumps({"workspace_id": workspace_id}))
                    async for message in socket:
                        news = json.loads(message)
                        if "error" in news:
                            raise ClientError(news["error"], url)
                        yield news
                except ConnectionClosed:
                    pass
                await asyncio.sleep(1)
        except InvalidStatus as error:
            answer = error.response
            raise RefusedError(self.webapi, url, answer.status_code, _problem(answer.body.decode()), 1) from None

    async def _call(self, service: Service, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            answer = await self._http.request(method, service.url + path, **content)
        except httpx.TransportError as error:
            raise NotAnsweringError(service, _words(error)) from None
        _check(service, answer)
        try:
            result: dict[str, Any] = answer.json()
        except ValueError:
            what = f"what listens here is not {service.name}: its answer is no JSON"
            raise ClientError(what, service.url, f"{service.settings} say where it is") from None
        return result


def _check(service: Service, answer: httpx.Response) -> None:
    """Raise RefusedError for what is no success."""
    if answer.is_success:
        return
    asked = f"{answer.request.method} {answer.request.url}"
    try:
        retry_after = float(answer.headers.get("retry-after", 1))
    except ValueError:
        retry_after = 1.0
    raise RefusedError(service, asked, answer.status_code, _problem(answer.text), retry_after)


def _problem(text: str) -> dict[str, Any]:
    """The members of problem details; of what is none, its first words."""
    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"detail": text[:200]}


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
