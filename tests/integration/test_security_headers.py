"""Every HTTP response tells browsers what they may not do with it, and /ready keeps its reasons from strangers."""

from playwright.async_api import Browser, expect

from local.launcher import System
from tests.support.browser import NEEDS_CHROMIUM
from tests.support.client import Client, problem
from tests.support.polling import until


async def test_every_response_has_the_headers(client: Client) -> None:
    paths = ["/bulksms", "/docs", "/openapi.json", "/nowhere", "/health", "/metrics"]
    urls = [f"{service}{path}" for service in (client.webapi, client.salesapi) for path in paths]
    urls += [
        f"{client.webapi}/",
        f"{client.webapi}/system",
        f"{client.webapi}/static/api.js",
        f"{client.carrier}/stats",
    ]
    urls += [f"{url}/metrics" for url in client.metrics_urls.values()]
    for url in urls:
        headers = (await client.http.get(url)).headers
        assert headers["x-content-type-options"] == "nosniff", url
        assert "default-src 'none'" in headers["content-security-policy"], url
        assert "frame-ancestors 'none'" in headers["content-security-policy"], url
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer"), url
        assert headers["cross-origin-resource-policy"] == "same-origin", url
        if not url.startswith((f"{client.webapi}/static", f"{client.webapi}/docs", f"{client.salesapi}/docs")):
            assert headers["cache-control"] in ("no-store", "no-cache"), url
    answer = await client.http.get(f"{client.salesapi}/bulksms")
    assert answer.headers["cache-control"] == "no-store"
    refused = await client.http.get(f"{client.salesapi}/bulksms", headers={"Origin": "null"})
    assert (refused.status_code, refused.headers["cache-control"]) == (403, "no-store")


@NEEDS_CHROMIUM
async def test_the_docs_work_under_their_policy(client: Client, browser: Browser) -> None:
    page = await browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    await page.goto(f"{client.salesapi}/docs")
    await expect(page.locator(".opblock").first).to_be_visible()
    await page.locator(".opblock").first.click()
    await expect(page.locator(".opblock-body").first).to_be_visible()
    assert not [line for line in said if "Content Security Policy" in line]
    await page.close()


async def test_ready_tells_strangers_no_reasons(system: System, client: Client) -> None:
    """A proxy on this machine forwards a stranger's request from loopback."""
    assert system.valkey is not None
    system.valkey.kill()
    try:
        local = await client.http.get(f"{client.salesapi}/ready")
        stranger = await client.http.get(f"{client.salesapi}/ready", headers={"X-Forwarded-For": "192.0.2.1"})
    finally:
        system.valkey.start()
    assert "redis" in problem(stranger, 503)
    assert stranger.json()["parts"]["redis"] == "does not answer"
    assert local.json()["parts"]["redis"] not in ("ok", "does not answer")
    await until(lambda: _ready(client))


async def _ready(client: Client) -> bool:
    return (await client.http.get(f"{client.salesapi}/ready")).status_code == 200
