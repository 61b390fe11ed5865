"""The account page in Chromium, for its tests."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from tests.client import PASSWORD
from tests.server.console_page import BrowserPage

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator


class AccountPage(BrowserPage):
    """The page, with its console errors; a violation of the Content-Security-Policy is one of them."""

    async def sign_in(self, login: str, password: str = PASSWORD) -> None:
        await self.page.get_by_label("E-mail address or username").fill(login)
        await self.page.get_by_label("Password", exact=True).fill(password)
        await self.page.get_by_role("button", name="Sign in", exact=True).click()

    async def show(self, section: str) -> None:
        await self.page.get_by_role("navigation", name="Account").get_by_role("link", name=section, exact=True).click()
        await self.page.get_by_role("heading", name=section, level=1).wait_for()

    def row(self, text: str) -> Locator:
        return self.page.get_by_role("row").filter(has_text=text)

    async def kept(self) -> str:
        """What scripts can read of what the browser keeps."""
        return await self.page.evaluate("() => JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])")


@asynccontextmanager
async def open_account(browser: Browser, url: str, path: str = "/account") -> AsyncGenerator[AccountPage]:
    """Open the page in a fresh browser context."""
    context = await browser.new_context()
    context.set_default_timeout(20_000)
    account = AccountPage(await context.new_page())
    await account.page.goto(f"{url}{path}")
    yield account
    await context.close()
