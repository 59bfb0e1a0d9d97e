"""The dashboard: two pages, their styles and scripts as static files, and their configuration."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from common.web.requests import json_response

PUBLIC = ("/", "/system", "/system/topology", "/config.json", "/static/")  # they hold no data of any workspace

_FOLDER = Path(__file__).with_name("static")

# File names have no version, so browsers revalidate each time and mostly get 304.
_HEADERS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class _StaticFiles(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_HEADERS)
        return response


def routes(salesapi_url: str) -> list[BaseRoute]:
    """The routes `/`, `/system`, `/config.json` and `/static`; the pages may call this service and `salesapi_url`."""
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {salesapi_url}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {**_HEADERS, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    async def dashboard(request: Request) -> Response:
        return FileResponse(_FOLDER / "index.html", headers=headers)

    async def system(request: Request) -> Response:
        return FileResponse(_FOLDER / "system.html", headers=headers)

    async def config(request: Request) -> Response:
        return json_response({"salesapi_url": salesapi_url}, headers=_HEADERS)

    return [
        Route("/", dashboard, include_in_schema=False),
        Route("/system", system, include_in_schema=False),
        Route("/config.json", config, include_in_schema=False),
        Mount("/static", _StaticFiles(directory=_FOLDER)),
    ]
