"""A real browser, Debian's Chromium, for the tests of the dashboard."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright, expect

_CHROMIUM = shutil.which("chromium")
_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

NEEDS_CHROMIUM = pytest.mark.skipif(_CHROMIUM is None, reason="chromium is not installed here; CI installs Debian's")

expect.set_options(timeout=90_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, while the block runs."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=_CHROMIUM, args=_ARGS)
        yield started
        await started.close()
