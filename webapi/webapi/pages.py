"""The dashboard: two pages, their styles and scripts as plain files, and what they must know of this installation."""

from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from common.web.requests import json_response

PUBLIC = ("/", "/system", "/system/topology", "/config.json", "/static/")  # they show nothing that is anyone's

_FOLDER = Path(__file__).with_name("static")

# Files have no version in their name: a browser asks each time, and is mostly told that its copy is good (304).
_ALWAYS = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}


class _Files(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_ALWAYS)
        return response


def routes(salesapi_url: str) -> list[BaseRoute]:
    """`/`, `/system`, `/config.json` and `/static`; the pages may call this service and the one at `salesapi_url`."""
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self' {salesapi_url}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {**_ALWAYS, "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}

    async def dashboard(request: Request) -> Response:
        return FileResponse(_FOLDER / "index.html", headers=headers)

    async def system(request: Request) -> Response:
        return FileResponse(_FOLDER / "system.html", headers=headers)

    async def config(request: Request) -> Response:
        return json_response({"salesapi_url": salesapi_url}, headers=_ALWAYS)

    return [
        Route("/", dashboard, include_in_schema=False),
        Route("/system", system, include_in_schema=False),
        Route("/config.json", config, include_in_schema=False),
        Mount("/static", _Files(directory=_FOLDER)),
    ]
