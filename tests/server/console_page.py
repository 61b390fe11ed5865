"""GraphiQL in a real Chromium, for the tests of the page."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from server.console.build import build

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Request, WebSocket

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=os.environ.get("NO_CHROMIUM", "no Chromium is installed on this machine"))


@pytest.fixture(scope="module")
async def built_console() -> None:
    """The console built from its sources; instant if it is built already."""
    await asyncio.to_thread(build)


@pytest.fixture(scope="session")
async def browser() -> AsyncGenerator[Browser]:
    """Chromium without background requests of its own."""
    from playwright.async_api import async_playwright  # slow import: only tests of the page pay for it

    # A page lives for seconds, in which optimized code does not pay for its making.
    quick = ["--js-flags=--no-opt --no-maglev", "--renderer-process-limit=1", "--disable-extensions", "--mute-audio"]
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=CHROMIUM, args=[*quick, *quiet])


class BrowserPage:
    """A page with the hosts it connects to and its console errors."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.origins: set[str] = set()
        self.sent: Counter[str] = Counter()
        self.complaints: list[str] = []
        page.on("request", self._request)
        page.on("websocket", self._socket)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _request(self, request: Request) -> None:
        where = urlsplit(request.url)
        if where.scheme != "data":
            self.origins.add(where.netloc)
            self.sent[f"{request.method} {where.netloc}"] += 1

    def _socket(self, socket: WebSocket) -> None:
        self.origins.add(urlsplit(socket.url).netloc)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


class ConsolePage(BrowserPage):
    """GraphiQL."""

    async def sign_in(self, token: str) -> None:
        await self.page.get_by_label("API token").fill(token)
        await self.page.get_by_role("button", name="Sign in").click()

    async def run(self, tab: int, operation: str) -> None:
        await self.page.locator(f"#graphiql-session-tab-{tab}").click()
        menu_item = self.page.get_by_role("menuitem", name=operation)
        # GraphiQL parses a tab's operations a moment after showing it; until then the button runs at once or offers another tab's
        # operations.
        while not await menu_item.is_visible():
            await self.page.keyboard.press("Escape")
            await asyncio.sleep(0.1)
            await self.page.locator(".graphiql-execute-button[aria-haspopup=menu]").click()
            await asyncio.sleep(0.1)
        await menu_item.click()

    async def upload(self, name: str, content: bytes) -> None:
        await self.page.get_by_role("button", name="Show Upload").click()
        await self.page.get_by_label("File", exact=True).set_input_files({"name": name, "mimeType": "text/csv", "buffer": content})
        await self.page.get_by_role("button", name="Upload", exact=True).click()

    async def set_variables(self, **values: Any) -> None:
        """Replace these of the active tab's variables, as typing them does."""
        text = json.dumps({**await self.variables(), **values}, indent=2)
        await self.page.evaluate(f"text => ({_MODEL_OF})('variables.json').setValue(text)", text)

    async def show(self, tab: int) -> Any:
        """Change to a tab and return its variables."""
        await self.page.locator(f"#graphiql-session-tab-{tab}").click()
        return await self.variables()

    async def titles(self) -> list[str]:
        return await self.page.locator("[id^=graphiql-session-tab-]").all_inner_texts()

    async def answer(self) -> Any:
        """Return the whole content of the response pane; Monaco renders only the lines in view."""
        await self.page.wait_for_function(f"() => ({_TEXT_OF})('response.json').length > 0 && !document.querySelector('.graphiql-spinner')")
        return json.loads(await self.page.evaluate(f"() => ({_TEXT_OF})('response.json')"))

    async def variables(self) -> Any:
        return json.loads(await self.page.evaluate(f"() => ({_TEXT_OF})('variables.json')"))


_MODEL_OF = "name => __MONACO.editor.getModels().find(model => model.uri.path.endsWith(name))"
_TEXT_OF = f"name => ({_MODEL_OF})(name).getValue()"


@asynccontextmanager
async def open_console(browser: Browser, address: str) -> AsyncGenerator[ConsolePage]:
    """Open GraphiQL at `address` in a fresh browser context; wait until its editors are ready."""
    context = await browser.new_context()
    console = ConsolePage(await context.new_page())
    await console.page.goto(address)
    await console.page.locator(".graphiql-query-editor .view-line").first.wait_for()
    yield console
    await context.close()
