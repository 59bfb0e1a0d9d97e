"""A system with API keys and their owners, for the tests of security."""

import asyncio
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import httpx2
import trustme
from click.testing import CliRunner

from console import cli
from local.launcher import System
from tests.support.client import Client, csv_of


class Owner(NamedTuple):
    """A workspace, its key, and a campaign of its own."""

    workspace: UUID
    key: str
    bulksms_id: str


class SecuredSystem:
    """A system in protected mode, an operator, and two workspaces with keys."""

    def __init__(self, system: System, client: Client) -> None:
        self.system = system
        self.client = client
        self.operator = ""
        self.ann: Owner
        self.bob: Owner

    async def command(self, *words: str) -> str:
        """Run a command of console.py; return its output."""
        settings = self.system.settings
        environ = {"DS_DSN": settings.ds_dsn, "SALESDB_DSN": settings.salesdb_dsn}
        done = await asyncio.to_thread(CliRunner().invoke, cli, words, env=environ)
        assert done.exit_code == 0, done.output
        return done.stdout

    async def new_key(self, *words: str) -> str:
        return (await self.command("key", *words)).split()[-1]

    async def owner(self, name: str) -> Owner:
        words = (await self.command("workspace", "create", name, "--credit", "100")).split()
        workspace, key = UUID(words[1]), words[3]
        fields = {"name": name, "message": "Hi", "workspace_id": str(workspace)}
        answer = await self.call(key, "POST", "/create", data=fields, files={"file": ("a.csv", csv_of(20))})
        assert answer.status_code == 201, answer.text
        return Owner(workspace, key, answer.json()["bulksms_id"])

    async def call(self, key: str, method: str, url: str, **options: Any) -> httpx2.Response:
        """Send a request with a key, to salesapi unless the URL is absolute."""
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **options.pop("headers", {})}
        url = url if url.startswith("http") else self.client.salesapi + url
        return await self.client.http.request(method, url, headers=headers, **options)

    async def status(self, key: str, url: str) -> int:
        return (await self.call(key, "GET", url)).status_code

    def log(self, name: str) -> str:
        return (self.system.log_dir / f"{name}.log").read_text()


def certificates(folder: Path) -> dict[str, str]:
    """A CA, and certificates for the rpc node and for its clients, as settings."""
    ca = trustme.CA()
    node, client = ca.issue_cert("127.0.0.1", "localhost"), ca.issue_cert("services")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    for name, cert in (("node", node), ("client", client)):
        cert.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        cert.private_key_pem.write_to_path(folder / f"{name}.key")
    return {
        "RPC_CERT": str(folder / "node.pem"),
        "RPC_KEY": str(folder / "node.key"),
        "RPC_CLIENT_CA": str(folder / "ca.pem"),
        "RPC_CA": str(folder / "ca.pem"),
        "RPC_CLIENT_CERT": str(folder / "client.pem"),
        "RPC_CLIENT_KEY": str(folder / "client.key"),
    }
