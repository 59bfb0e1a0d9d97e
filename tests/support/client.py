"""An HTTP client of the services and the carrier, for the tests."""

import io
import time
from typing import Any
from uuid import UUID

import httpx2
import msgspec

from common.auth.signatures import HEADER, Secret
from common.settings import Settings
from common.topology import PROCESSES

SECRET, OLD_SECRET = "the secret of the tests", "the previous secret of the tests"


def csv_of(count: int, first: int = 0) -> bytes:
    """A CSV of `count` contacts with different numbers."""
    rows = "".join(f"Contact {i},+35840{i:07d}\n" for i in range(first, first + count))
    return f"Contact Name,Phone Number\n{rows}".encode()


class Client:
    """HTTP calls to the services and the carrier."""

    def __init__(self, http: httpx2.AsyncClient, settings: Settings) -> None:
        self.http = http
        self.settings = settings
        self.webapi = f"http://127.0.0.1:{settings.webapi_port}"
        self.salesapi = f"http://127.0.0.1:{settings.salesapi_port}"
        self.carrier = settings.carrier_url
        self._behaviour_changed = False
        self._secret = settings.callback_keys[0].decode()

    @property
    def metrics_urls(self) -> dict[str, str]:
        """The base URL of each process's /metrics."""
        return {process.name: process.metrics_url(self.settings) for process in PROCESSES}

    async def create(
        self,
        workspace_id: UUID | str,
        csv: bytes,
        message: str = "Hello",
        headers: dict[str, str] | None = None,
        **fields: str,
    ) -> httpx2.Response:
        return await self.http.post(
            f"{self.salesapi}/create",
            data={"name": "test", "message": message, "workspace_id": str(workspace_id), **fields},
            files={"file": ("contacts.csv", io.BytesIO(csv), "text/csv")},
            headers=headers,
        )

    async def created(self, workspace_id: UUID, csv: bytes, message: str = "Hello") -> str:
        """Create a campaign; return its id."""
        answer = await self.create(workspace_id, csv, message)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["bulksms_id"])

    async def run(self, bulksms_id: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        return await self.http.post(f"{self.salesapi}/run", json={"bulksms_id": bulksms_id}, headers=headers)

    async def campaign(self, bulksms_id: str) -> dict[str, Any]:
        answer = await self.http.get(f"{self.salesapi}/bulksms/{bulksms_id}")
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def workspace(self, workspace_id: UUID) -> dict[str, Any]:
        result: dict[str, Any] = (await self.http.get(f"{self.webapi}/workspaces/{workspace_id}")).json()
        return result

    async def callback(self, reports: Any) -> httpx2.Response:
        return await self.post_callback(msgspec.json.encode(reports))

    async def post_callback(self, body: bytes) -> httpx2.Response:
        """Send a signed callback, as the carrier does."""
        return await self.http.post(f"{self.salesapi}/callback", content=body, headers=signed(body, self._secret))

    async def completed(self, bulksms_id: str) -> bool:
        return bool((await self.campaign(bulksms_id))["status"] == "completed")

    async def behave(self, **behaviour: Any) -> None:
        """Change the carrier's behaviour, until the end of the test."""
        self._behaviour_changed = True
        answer = await self.http.post(f"{self.carrier}/behaviour", json=behaviour)
        assert answer.status_code == 200, answer.text

    async def reset_behaviour(self) -> None:
        """Reset the carrier's behaviour to its settings, if it was changed."""
        if self._behaviour_changed:
            settings = self.settings
            await self.behave(
                failed=settings.carrier_failed,
                undelivered=settings.carrier_undelivered,
                array=settings.carrier_array,
                mps=settings.carrier_mps,
                paused=False,
                trouble=[],
            )
            self._behaviour_changed = False

    async def carrier_stats(self) -> dict[str, int]:
        result: dict[str, int] = (await self.http.get(f"{self.carrier}/stats")).json()
        return result


def signed(body: bytes, secret: str = SECRET, age: float = 0) -> dict[str, str]:
    """The signature header of a body that was signed `age` seconds ago."""
    return {HEADER: Secret(secret.encode()).sign(body, time.time() - age).decode()}


def problem(answer: httpx2.Response, status: int) -> str:
    """Check that a response is problem details (RFC 9457) of this status; return its detail."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    return str(body["detail"])
