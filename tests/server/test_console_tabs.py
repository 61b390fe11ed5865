"""The tabs of GraphiQL lead from a table to a model of one's own; what they show is what happens."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from db.core.work import Database
from tests.client import Client
from tests.clients.dropping_proxy import dropping_proxy
from tests.factories import platform
from tests.server.console_page import needs_chromium, open_console

pytestmark = pytest.mark.exhaustive

if TYPE_CHECKING:
    from playwright.async_api import Browser

SEED = 7


def table_with_gaps() -> bytes:
    """Text, numbers and dates, a sixth of each missing; the kind follows from the first two."""
    chance = random.Random(SEED)
    lines = ["colour,size,day,kind"]
    for row in range(90):
        colour, size = chance.choice(["red", "green", "blue"]), round(chance.uniform(0, 10), 2)
        day = f"2024-0{row % 9 + 1}-{row % 28 + 1:02}"
        kind = "warm" if colour == "red" or size > 8 else "cold"
        lines.append(
            f"{colour if chance.random() > 1 / 6 else ''},{size if chance.random() > 1 / 6 else ''},{day if chance.random() > 1 / 6 else ''},{kind}"
        )
    return "\n".join(lines).encode()


def titles_in_readme() -> list[str]:
    sentence = re.search(r"go through the tabs(.+?)\.", Path("README.md").read_text(), re.DOTALL)
    assert sentence is not None
    return re.findall(r"\*(.+?)\*", " ".join(sentence[1].split()))


@needs_chromium
async def test_the_tabs_train_on_text_and_gaps_and_rank_the_runs_of_that_experiment(
    built_console: None, browser: Browser, admin: Client, bob: Client, database: Database, worker: object
) -> None:
    await platform.fill(database, "bob", 2)  # whose runs and models an admin sees
    async with open_console(browser, f"{admin.url}/graphql#token={admin.token}") as console:
        page = console.page
        await page.get_by_text("Signed in as admin").wait_for()
        titles = titles_in_readme()
        assert (len(titles), await console.titles()) == (7, titles)

        await console.show(0)
        await console.set_variables(name="older", targetColumn="kind")
        await page.locator(".graphiql-execute-button").click()
        await console.answer()
        await page.get_by_role("button", name="Show Upload").click()
        choice = page.locator(".upload select")
        await choice.locator("option", has_text="older").wait_for(state="attached")
        await console.set_variables(name="made last")
        await page.locator(".graphiql-execute-button").click()
        await choice.locator("option:checked", has_text="made last").wait_for(state="attached")

        await page.get_by_label("File", exact=True).set_input_files(
            {"name": "kinds.csv", "mimeType": "text/csv", "buffer": table_with_gaps()}
        )
        await page.get_by_role("button", name="Upload", exact=True).click()
        await page.get_by_text("Version 1 is ready: 90 rows, 4 columns").wait_for()
        await page.get_by_role("button", name="Hide Upload").click()

        await console.run(2, "CreatePipeline")
        created = (await console.answer())["data"]["createPipeline"]["pipeline"]
        assert created["status"] == "VALIDATED"
        await page.wait_for_function("id => localStorage['graphiql:tabState'].includes(id)", arg=created["id"])
        await console.run(2, "RunPipeline")
        started = (await console.answer())["data"]["runPipeline"]
        await page.wait_for_function("id => localStorage['graphiql:tabState'].includes(id)", arg=started["job"]["id"])
        await console.run(3, "WatchJob")
        await page.locator(".live-state.ended").wait_for()
        ends = await page.locator(".live li b.kind-completed").count()
        assert ends == 1, await page.locator(".live li").all_inner_texts()
        losses = await page.locator(".live li", has=page.locator("b.kind-metric")).all_inner_texts()
        # How small the loss is in the last batch that holds it depends on where the batches end.
        for metric in (r"train_loss \d(\.\d+)?(e-\d+)?\b", r"accuracy 0\.\d{4}\b"):
            assert any(re.search(metric, line) for line in losses), (metric, losses)

        await console.run(4, "RankRuns")
        ranked = (await console.answer())["data"]["experiment"]["runs"]
        (run,) = (edge["node"] for edge in ranked["edges"])
        assert (ranked["totalCount"], run["id"]) == (1, started["run"]["id"])
        variables = await console.variables()
        assert (variables["runIds"], variables["modelVersionId"]) == ([run["id"]], run["modelVersion"]["id"])
        assert await console.titles() == titles


@needs_chromium
async def test_a_stopped_stream_says_so_and_the_next_viewer_is_offered_none_of_its_ids(
    built_console: None, browser: Browser, ada: Client, bob: Client, database: Database
) -> None:
    await platform.fill(database, "ada", 1)
    await platform.add_states(database, "ada")
    job = (await ada.one("{ jobs(filter: {status: [QUEUED]}) { edges { node { id } } } }"))["edges"][0]["node"]["id"]
    async with open_console(browser, f"{ada.url}/graphql#token={ada.token}") as console:
        page = console.page
        await page.get_by_text("Signed in as ada").wait_for()
        await console.show(0)
        await page.locator(".graphiql-execute-button").click()
        made = (await console.answer())["data"]["createDataset"]["dataset"]["id"]
        assert (await console.show(1))["datasetId"] == made
        await console.show(3)
        await console.set_variables(jobId=job)
        await page.wait_for_function("id => localStorage['graphiql:tabState'].includes(id)", arg=job)
        await console.run(3, "WatchJob")
        await page.locator(".live-state.open").wait_for()
        await page.locator(".live li").first.wait_for()
        await page.locator(".graphiql-execute-button").click()
        await page.locator(".live-state", has_text="stopped watching").wait_for()
        assert (await ada.one("query($id: ID!) { job(id: $id) { status } }", id=job))["status"] == "QUEUED"

        await page.get_by_role("button", name="Sign out").click()
        await console.sign_in(bob.token or "")
        await page.get_by_text("Signed in as bob").wait_for()
        assert (await console.show(1))["datasetId"] == ""


@needs_chromium
async def test_a_stream_goes_on_after_its_connection_dropped(built_console: None, browser: Browser, ada: Client, worker: object) -> None:
    _, job = await ada.upload(await ada.create_dataset("followed"), "followed.csv", table_with_gaps())
    async with dropping_proxy(ada.url, drops=1) as proxy, open_console(browser, f"{proxy.address}/graphql#token={ada.token}") as console:
        await console.page.get_by_text("Signed in as ada").wait_for()
        await console.show(3)
        await console.set_variables(jobId=job)
        await console.page.wait_for_function("id => localStorage['graphiql:tabState'].includes(id)", arg=job)
        await console.run(3, "WatchJob")
        await console.page.locator(".live-state.ended").wait_for()
        assert proxy.drops_left == 0
        events = [event["type"] async for event in ada.events(job)]
        assert await console.page.locator(".live li b").all_text_contents() == events
