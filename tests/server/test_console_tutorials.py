"""The tutorials of GraphiQL: a step is done when its operation succeeded, and its result is in the variables of the next."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.client import Client
from tests.server.console_page import ConsolePage, needs_chromium, open_console

pytestmark = pytest.mark.exhaustive

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Route

TITLE = "Your first model"
PROGRESS = "{ tutorials { title steps { title isCompleted } progress { completedSteps totalSteps completedAt } } }"


def step_of(console: ConsolePage, number: int) -> Locator:
    return console.page.locator(".tutorials .steps > li").nth(number - 1)


async def ticks(console: ConsolePage) -> list[bool]:
    marks = console.page.locator(".tutorials .steps > li .tick")
    return [await mark.get_attribute("aria-label") == "Done" for mark in await marks.all()]


async def open_step(console: ConsolePage, number: int, operation: str) -> None:
    """Open the tab of a step, and wait until GraphiQL has parsed its document."""
    step = step_of(console, number)
    if await step.locator("details").get_attribute("open") is None:
        await step.locator("summary").click()
    await step.get_by_role("button", name="Open in a tab").click()
    await console.page.wait_for_function(
        "name => { const state = JSON.parse(localStorage['graphiql:tabState'] ?? '{}');"
        " return state.tabs?.[state.activeTabIndex]?.operationName === name }",
        arg=operation,
    )


async def execute(console: ConsolePage) -> Any:
    await console.page.locator(".graphiql-execute-button").click()
    return await console.answer()


async def progress_of(viewer: Client) -> tuple[list[bool], int]:
    (shown,) = [one for one in await viewer.one(PROGRESS) if one["title"] == TITLE]
    return [step["isCompleted"] for step in shown["steps"]], shown["progress"]["completedSteps"]


@needs_chromium
@pytest.mark.timeout(300)
async def test_steps_are_ticked_off_by_their_operations_alone_and_stay_so(
    built_console: None, browser: Browser, ada: Client, bob: Client, worker: object
) -> None:
    async with open_console(browser, f"{ada.url}/graphql") as console:
        page = console.page
        await page.get_by_role("button", name="Show Tutorials").click()
        await page.get_by_text("Sign in at the top first: what you have done is kept in your account.").wait_for()
        await console.sign_in(ada.token or "")
        await page.get_by_role("button", name=TITLE).focus()
        await page.keyboard.press("Enter")

        await step_of(console, 1).get_by_text("Open in a tab").wait_for()
        count = len(await ticks(console))
        await step_of(console, 2).locator("summary").click()
        await page.get_by_text("comes from step 1").first.wait_for()
        await open_step(console, 2, "Watch")
        assert await console.variables() == {"jobId": None}
        await execute(console)  # which has errors: the variable lacks its value

        await open_step(console, 1, "Generate")
        assert await progress_of(ada) == ([False] * count, 0), "neither opening a tab nor a refused operation ticks a step off"
        taken = await ada.create_dataset((await console.variables())["name"])
        assert "code" in (await execute(console))["data"]["generateDataset"], "the name is taken"
        assert await ticks(console) == [False] * count
        await console.set_variables(name="of a tutorial")
        job = (await execute(console))["data"]["generateDataset"]["job"]["id"]
        await page.get_by_text(f"1 of {count} steps are done.").wait_for()
        assert await ticks(console) == [True] + [False] * (count - 1)

        tabs = len(await console.titles())
        await open_step(console, 2, "Watch")
        assert (await console.variables(), len(await console.titles())) == ({"jobId": job}, tabs), "its tab is that of before, and filled"
        await page.locator(".graphiql-execute-button").click()
        await page.get_by_text(f"2 of {count} steps are done.").wait_for()
        await page.locator(".live-state.ended").wait_for()

        await page.reload()
        await page.get_by_text(f"2 of {count} steps are done.").wait_for()
        assert await ticks(console) == [True, True] + [False] * (count - 2)
        await open_step(console, 3, "Look")
        assert (await execute(console))["data"]["node"]["rowCount"] == 400
        await page.get_by_text(f"3 of {count} steps are done.").wait_for()
        assert await progress_of(ada) == ([True] * 3 + [False] * (count - 3), 3)
        assert await progress_of(bob) == ([False] * count, 0)

        await page.get_by_role("button", name="Start again").click()
        await page.get_by_text(f"0 of {count} steps are done.").wait_for()
        assert await progress_of(ada) == ([False] * count, 0)
        assert await ada.one("query($id: ID!) { dataset(id: $id) { name } }", id=taken) is not None
        assert console.origins == {urlsplit(ada.url).netloc}
        assert console.complaints == []


@needs_chromium
async def test_a_step_without_a_document_has_a_button_and_its_markdown_brings_neither_html_nor_other_links(
    built_console: None, browser: Browser, ada: Client
) -> None:
    body = (
        "<b onclick='alert(1)'>bold</b> [web](https://example.org/a) [script](javascript:alert(1)) [page](/account) [mail](mailto:a@example.org)"
        " ![a picture](https://example.org/a.png) `code`"
    )

    async def with_body(route: Route) -> None:
        if "query Tutorials" not in (route.request.post_data or ""):
            await route.fallback()
            return
        response = await route.fetch()
        answer = await response.json()
        for tutorial in answer["data"]["tutorials"]:
            tutorial["steps"] = [step if step["document"] else {**step, "body": body} for step in tutorial["steps"]]
        await route.fulfill(response=response, json=answer)

    def position(steps: list[Any]) -> int | None:
        return next((index for index, step in enumerate(steps, 1) if step["document"] is None), None)

    tutorials = await ada.one("{ tutorials { title steps { document } } }")
    title, number = next((one["title"], found) for one in tutorials if (found := position(one["steps"])))
    async with open_console(browser, f"{ada.url}/graphql#token={ada.token}") as console:
        page = console.page
        await page.get_by_text("Signed in as ada").wait_for()
        await page.route("**/graphql", with_body)
        await page.get_by_role("button", name="Show Tutorials").click()
        await page.get_by_role("button", name=title).click()
        step = step_of(console, number)
        await step.locator("summary").focus()
        await page.keyboard.press("Enter")
        markdown = step.locator(".markdown")
        await markdown.get_by_text("<b onclick='alert(1)'>bold</b>").wait_for()
        links = await markdown.evaluate("box => [...box.querySelectorAll('a[href]')].map(a => [a.textContent, a.href, a.target, a.rel])")
        assert links == [["web", "https://example.org/a", "_blank", "noopener noreferrer"]]
        assert await markdown.locator("img, b").count() == 0
        assert "a picture" in await markdown.inner_text()

        done = step.get_by_role("button", name="Done")
        await done.click()
        await page.get_by_text(re.compile(r"^1 of \d+ steps are done")).wait_for()
        assert [index for index, tick in enumerate(await ticks(console), 1) if tick] == [number]
        assert await done.count() == 0
        assert console.origins == {urlsplit(ada.url).netloc}
        assert console.complaints == []
