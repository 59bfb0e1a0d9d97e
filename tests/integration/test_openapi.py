"""The OpenAPI documents: complete, and true of the running services."""

import ast
import asyncio
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx2
import pytest
import schemathesis

from common.settings import ROOT
from tests.support.client import Client, csv_of, signed
from tests.support.polling import until

_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method,allow_header_conformance"
)


@pytest.mark.parametrize("service", ["webapi", "salesapi"])
async def test_whatever_the_document_allows_is_answered_as_it_says(
    client: Client, service: str, tmp_path: Path
) -> None:
    """Generated requests, right and wrong: never 500, always a documented status, content type and body."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{getattr(client, service)}/openapi.json",
        "--checks", _CHECKS, "--phases", "coverage,fuzzing", "--max-examples", "15", "--seed", "1",
        "--generation-database", "none", "--request-timeout", "120", "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


class Checked:
    """Calls the system, and holds every answer against the service's document."""

    def __init__(self, client: Client, salesapi: schemathesis.BaseSchema, webapi: schemathesis.BaseSchema) -> None:
        self._http = client.http
        self._services = {client.salesapi: salesapi, client.webapi: webapi}

    async def __call__(self, service: str, method: str, path: str, status: int, **request: object) -> httpx2.Response:
        """`path` with its values in angle brackets: `/bulksms/{bulksms_id}<...>`."""
        template, values = re.sub("<.*?>", "", path), re.findall("<(.*?)>", path)
        url = service + re.sub("{.*?}", lambda _: values.pop(0), template)
        answer = await self._http.request(method, url, **request)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        answer.request = httpx2.Request(method, url, content=b"")  # of an upload, httpx2 keeps no body to look at
        self._services[service][template][method].validate_response(answer)
        return answer


async def test_the_answers_of_a_campaign_s_life_are_as_documented(client: Client, workspace: UUID) -> None:
    documents = [(await client.http.get(f"{one}/openapi.json")).json() for one in (client.salesapi, client.webapi)]
    call = Checked(client, *(schemathesis.openapi.from_dict(one) for one in documents))
    sales, web = client.salesapi, client.webapi
    fields = {"name": "life", "message": "Hi {Contact Name}", "workspace_id": str(workspace)}
    files = {"file": ("contacts.csv", csv_of(30) + b"Bo,12\n", "text/csv")}
    made = (await call(sales, "POST", "/create", 201, data=fields, files=files)).json()
    one, body = f"<{made['bulksms_id']}>", {"bulksms_id": made["bulksms_id"]}
    await call(
        sales, "POST", "/create", 422, data=fields, files={"file": ("a.csv", b"Contact Name,Phone Number\nA,1\n")}
    )
    await call(sales, "POST", "/pause", 409, json=body)
    await client.behave(failed=0.5)  # so that there is something to retry
    await call(sales, "POST", "/run", 202, json=body, headers={"Idempotency-Key": "life"})
    await call(sales, "POST", "/run", 409, json=body)
    await until(lambda: client.completed(made["bulksms_id"]))
    await client.behave(failed=0.1)
    await call(sales, "GET", f"/bulksms/{{bulksms_id}}{one}", 200)
    await call(sales, "GET", "/bulksms", 200, params={"workspace_id": str(workspace), "limit": "1"})
    await call(sales, "GET", f"/bulksms/{{bulksms_id}}{one}/contacts", 200, params={"limit": "10"})
    await call(sales, "GET", f"/bulksms/{{bulksms_id}}{one}/rejected", 200)
    await call(sales, "GET", f"/bulksms/{{bulksms_id}}{one}/results.csv", 200)
    await call(sales, "GET", f"/bulksms/{{bulksms_id}}{one}/timeline", 200)
    await call(sales, "POST", f"/bulksms/{{bulksms_id}}{one}/retry-failed", 201)
    report = {"message_id": f"{uuid4().hex}-0", "status": "sent", "timestamp": "2026-01-01T00:00:00Z"}
    reports = json.dumps([report]).encode()
    await call(sales, "POST", "/callback", 200, content=reports, headers=signed(reports))
    poor = {**fields, "workspace_id": str(workspace), "message": "x" * 1500}
    made = (await call(sales, "POST", "/create", 201, data=poor, files={"file": ("a.csv", csv_of(1_100))})).json()
    await call(sales, "POST", "/run", 402, json={"bulksms_id": made["bulksms_id"]})
    await call(web, "GET", f"/workspaces/{{workspace_id}}<{workspace}>", 200)
    await call(web, "POST", f"/workspaces/{{workspace_id}}<{workspace}>/topup", 200, json={"amount": "0.5"})
    await call(web, "GET", f"/workspaces/{{workspace_id}}<{workspace}>/bulksms", 200)
    await call(web, "GET", f"/bulksms/{{bulksms_id}}{one}", 200)
    await call(web, "GET", "/workspaces", 200)
    await call(web, "GET", "/system/flows", 200)
    await call(web, "GET", "/system/topology", 200)
    await call(web, "GET", "/ready", 200)


def _routed(folder: Path) -> Iterator[str]:
    """The routes made by hand in the sources of a folder, but for pages, which are marked as no part of the API."""
    for file in folder.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            match call:
                case ast.Call(func=ast.Name(id="Route"), keywords=keywords):
                    if not any(keyword.arg == "include_in_schema" for keyword in keywords):
                        yield f"{file}:{call.lineno}"


@pytest.mark.parametrize("service", ["webapi", "salesapi"])
async def test_every_route_is_documented(client: Client, service: str) -> None:
    by_hand = [*_routed(ROOT / service / service), *_routed(ROOT / "common")]
    assert len(by_hand) == 1, (  # the one that makes the routes of the operations
        f"list it in {service}/{service}/operations.py, or route a page with include_in_schema=False: {by_hand}"
    )
    paths = (await client.http.get(f"{getattr(client, service)}/openapi.json")).json()["paths"]
    assert {"/health", "/ready", "/metrics", "/bulksms/{bulksms_id}"} <= set(paths)


async def test_the_page_of_the_document_needs_no_network(client: Client) -> None:
    for service in (client.webapi, client.salesapi):
        page = (await client.http.get(f"{service}/docs")).text
        assert "//" not in page
        for asset in re.findall(r'(?:src|href)="([^"]+)"', page):
            assert (await client.http.get(service + asset)).status_code == 200
