"""The HTTP and WebSocket calls to webapi and salesapi, one method each; answers are what the services say, as JSON."""

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

# As the service says it: amounts are decimal strings, in credits.
Campaign: TypeAlias = dict[str, Any]
Credit: TypeAlias = dict[str, Any]

# Seconds; a large upload is answered when it is all in the database.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=120)


class Api:
    """A connection to both services at the addresses of `settings`, with its API key where there is one.

    Made where an event loop runs. Every method raises NotAnsweringError or RefusedError.
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
        form = aiohttp.FormData(fields, quote_fields=False)  # a name as it is, in UTF-8 (RFC 7578, 4.2)
        form.add_field("file", file, filename=file_name, content_type="text/csv")
        return await self._call(self.salesapi, "POST", "/create", data=form)

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
        async with self._answer(self.salesapi, "GET", f"/bulksms/{bulksms_id}/results.csv") as answer:
            async for piece in answer.content.iter_any():
                yield piece

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
        async with self._answer(service, method, path, **content) as answer:
            body = await answer.read()
        try:
            result: dict[str, Any] = json.loads(body)
        except ValueError:
            what = f"what listens here is not {service.name}: its answer is no JSON"
            raise ClientError(what, service.url, f"{service.settings} say where it is") from None
        return result

    @asynccontextmanager
    async def _answer(
        self, service: Service, method: str, path: str, **content: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer while it is read, if it is a success."""
        try:
            async with self._http.request(method, service.url + path, allow_redirects=False, **content) as answer:
                await _check(service, answer)
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotAnsweringError(service, _words(error)) from None


async def _check(service: Service, answer: aiohttp.ClientResponse) -> None:
    """Raise RefusedError for what is no success."""
    if answer.status < 300:
        return
    try:
        retry_after = float(answer.headers.get("retry-after", 1))
    except ValueError:
        retry_after = 1.0
    problem = _problem(await answer.text(errors="replace"))
    raise RefusedError(service, f"{answer.method} {answer.url}", answer.status, problem, retry_after)


def _problem(text: str) -> dict[str, Any]:
    """The members of problem details; of what is none, its first words."""
    try:
        problem = json.loads(text)
    except ValueError:
        problem = None
    return problem if isinstance(problem, dict) else {"detail": text[:200]}


def _words(error: aiohttp.ClientError | TimeoutError) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.errno:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
