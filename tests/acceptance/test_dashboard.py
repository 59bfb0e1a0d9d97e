"""The dashboard in a real browser: Debian's Chromium."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from playwright.async_api import Browser, Page, expect

from bulksms.message import count_segments
from common.settings import ROOT
from local.launcher import System
from tests.support.browser import NEEDS_CHROMIUM
from tests.support.client import Client, csv_of
from tests.support.polling import until

pytestmark = NEEDS_CHROMIUM


@pytest.fixture
async def page(browser: Browser, client: Client, workspace: UUID) -> AsyncIterator[Page]:
    """The dashboard of the test's workspace. An error in the page fails the test."""
    page = await browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
    await page.add_init_script(f"localStorage.setItem('bulksms-workspace', '{workspace}')")
    await page.goto(client.webapi)
    await expect(page.locator("#connection")).to_have_text("live")
    yield page
    await page.close()
    assert errors == []


async def check(page: Page, name: str, file: str | Path, message: str) -> None:
    """Fill in the form and press Check."""
    await page.get_by_role("button", name="New campaign").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.locator("#file").set_input_files(file)
    await page.get_by_label("Message").fill(message)
    await page.get_by_role("button", name="Check", exact=True).click()


async def test_a_campaign_from_the_form_to_its_end(client: Client, page: Page) -> None:
    await client.behave(failed=0)
    credit = page.locator("#credit")
    await expect(credit).to_have_text("1,000.0")
    await check(page, "lunch", ROOT / "5contacts.csv", "Hei {Contact Name}, salmon soup today!")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("every row accepted")
    await expect(dialog).to_contain_text("1,000.0 credits are available; 999.5 would be left.")
    await dialog.get_by_role("button", name="Run now").click()
    card = page.locator("article", has_text="lunch")
    await expect(card).to_contain_text("completed")
    await expect(card).to_contain_text("0.5 credits charged")
    await expect(credit).to_have_text("999.5")
    await card.get_by_role("link", name="lunch").click()
    rows = page.locator("section", has_text="Contacts").locator("tbody tr")
    await expect(rows).to_have_count(5)
    await page.get_by_role("button", name="failed", exact=True).click()
    await expect(page.get_by_text("No contacts with this status.")).to_be_visible()
    await expect(page.locator(".plot .area")).to_have_count(4)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download CSV").click()
    assert (await download.value).suggested_filename.endswith(".csv")


async def test_a_bad_csv_is_explained(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("Contact Name,Phone\nA,0401234567\n")
    await check(page, "bad", file, "Hi")
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("the column 'Phone Number' is missing")
    file.write_text("Contact Name,Phone Number\nA,0401234567\nB,12\nC,+358 40 123 4567\n")
    await page.locator("#file").set_input_files(file)
    await page.get_by_role("button", name="Check", exact=True).click()
    await expect(dialog).to_contain_text("1 row rejected, 1 duplicate")
    await expect(dialog.get_by_role("row", name="3 12 too short")).to_be_visible()
    await dialog.get_by_role("button", name="Discard").click()
    card = page.locator("article", has_text="bad")
    await expect(card).to_contain_text("cancelled")
    await card.get_by_role("button", name="Delete").click()
    await card.get_by_role("button", name="Delete it for good?").click()
    await expect(card).to_have_count(0)


async def test_a_campaign_is_scheduled_paused_resumed_cancelled_and_its_failures_retried(
    client: Client, page: Page, workspace: UUID
) -> None:
    await check(page, "later", ROOT / "5contacts.csv", "Hei")
    await page.get_by_label("Or start at").fill((datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M"))
    await page.get_by_role("button", name="Schedule").click()
    later = page.locator("article", has_text="later")
    await expect(later).to_contain_text("scheduled")
    await client.behave(failed=1, paused=True)
    await later.get_by_role("button", name="Run").click()
    await expect(later).to_contain_text("sending")
    await later.get_by_role("button", name="Pause").click()
    await expect(later).to_contain_text("paused")
    await later.get_by_role("button", name="Resume").click()
    await client.behave(paused=False)
    await expect(later).to_contain_text("5 not reached")
    await later.get_by_role("button", name="Retry failed").click()
    await expect(page.locator("article")).to_have_count(2)
    draft = page.locator("article", has_text="draft, not sent")
    await draft.get_by_role("button", name="Discard").click()
    await draft.get_by_role("button", name="Discard it?").click()
    await expect(page.locator("article", has_text="cancelled")).to_be_visible()


async def test_segments_are_counted_as_the_server_counts_them(page: Page) -> None:
    texts = [
        "",
        "Hi",
        "a" * 160,
        "a" * 161,
        "€" * 80,
        "a" * 152 + "€" * 5,
        "ж" * 70,
        "ж" * 71,
        "😀" * 35,
        "x" + "😀" * 70,
    ]
    counted = await page.evaluate(
        "async (texts) => texts.map((await import('/static/sms.js')).countSegments)",
        texts,
    )
    assert [(c["encoding"], c["characters"], c["segments"]) for c in counted] == [
        tuple(count_segments(text)) for text in texts
    ]


async def test_the_connection_state_is_shown_and_recovers(
    system: System, client: Client, page: Page, workspace: UUID
) -> None:
    system.kill("webapi")
    await expect(page.locator("#connection")).to_contain_text("disconnected")
    await asyncio.to_thread(system.restart, "webapi")
    await expect(page.locator("#connection")).to_have_text("live")
    await page.get_by_label("Add credits").fill("7")
    await page.get_by_role("button", name="Top up").click()
    await expect(page.locator("#credit")).to_have_text("1,007.0")


async def test_the_system_page_shows_traffic_and_missing_processes(
    system: System, client: Client, page: Page, workspace: UUID
) -> None:
    await page.goto(f"{client.webapi}/system")
    await expect(page.get_by_text("Everything answers")).to_be_visible()
    await client.behave(mps=100)  # so that it lasts long enough to be seen on the page
    bulksms_id = await client.created(workspace, csv_of(1000))
    await client.run(bulksms_id)
    reports = page.get_by_role("row", name=re.compile("delivery reports"))
    await expect(reports.get_by_role("cell").last).to_have_text(re.compile(r"^[1-9]"))
    await client.behave(mps=0)
    await expect(page.locator(".node[data-health=ok]")).to_have_count(9)
    system.kill("general_worker")
    missing = page.locator(".node[data-health=missing]")
    await expect(missing).to_contain_text("general_worker")
    await asyncio.to_thread(system.restart, "general_worker")
    await expect(missing).to_have_count(0)
    await until(lambda: client.completed(bulksms_id))
