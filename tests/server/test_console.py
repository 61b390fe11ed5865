"""GraphiQL in a real browser: after signing in once it uploads, queries and subscribes, and sends requests only to us."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from graphql import OperationDefinitionNode, build_schema, get_variable_values, parse, validate
from playwright.async_api import Browser
from starlette.requests import Request as PageRequest

from server.console.page import content_security_policy, page
from tests.client import Client
from tests.server.console_page import needs_chromium, open_console

TABS = sorted(Path("server/console/src/tabs").glob("*.graphql"))
FLOWERS = b"kind,height\nrose,1.5\ntulip,0.25\nlily,0.75\n"


@needs_chromium
async def test_the_main_job_works_in_a_browser_and_nothing_leaves_our_origin(
    built_console: None, browser: Browser, ada: Client, worker: object
) -> None:
    async with open_console(browser, f"{ada.url}/graphql") as console:
        await console.sign_in(ada.token or "")
        await console.page.get_by_text("Signed in as ada MEMBER").wait_for()

        await console.upload("flowers.csv", FLOWERS)
        await console.page.get_by_text("Version 1 is ready: 3 rows, 2 columns, no issues; its SHA-256 is that of your file.").wait_for()

        await console.run(1, "LookInside")
        (dataset,) = (await ada.one("{ datasets { edges { node { id name currentVersion { id } } } } }"))["edges"]
        assert (await console.variables())["datasetId"] == dataset["node"]["id"]
        inspected = (await console.answer())["data"]["dataset"]
        assert inspected["name"] == "flowers"
        version = inspected["currentVersion"]
        assert version.pop("profile")["columns"] == [
            {"name": "kind", "type": "STRING", "missingCount": 0, "distinctCount": 3, "min": "lily", "max": "tulip", "mean": None},
            {"name": "height", "type": "FLOAT", "missingCount": 0, "distinctCount": 3, "min": 0.25, "max": 1.5, "mean": 2.5 / 3},
        ]
        assert version == {
            "id": dataset["node"]["currentVersion"]["id"],
            "number": 1,
            "rowCount": 3,
            "columnCount": 2,
            "issues": [],
            "preview": [{"kind": "rose", "height": 1.5}, {"kind": "tulip", "height": 0.25}, {"kind": "lily", "height": 0.75}],
        }

        await console.run(3, "WatchJob")
        await console.page.locator(".live-state.ended").wait_for()
        last_event = (await console.answer())["data"]["jobEvents"]
        events = [event async for event in ada.events((await console.variables())["jobId"])]
        assert (last_event["sequence"], last_event["type"], last_event["progress"]) == (events[-1]["sequence"], "COMPLETED", 100)
        assert await console.page.locator(".live li b").all_text_contents() == [event["type"] for event in events]

        await console.page.set_viewport_size({"width": 1024, "height": 600})  # the smallest with both panes in reach
        for pane in (".graphiql-editor-tool", ".live"):
            box = await console.page.locator(pane).bounding_box()
            assert box is not None
            assert box["height"] > 100
            assert box["y"] + box["height"] <= 600, pane
        assert await console.page.evaluate("document.documentElement.scrollHeight") == 600

        upload_url: str = (await ada.request_upload(dataset["node"]["id"], "x.csv", b"a\n1\n"))["upload"]["url"]
        store = urlsplit(upload_url).netloc
        assert console.origins == {urlsplit(ada.url).netloc, store}
        assert console.sent[f"PUT {store}"] == 1
        assert console.complaints == []


@pytest.mark.exhaustive
@needs_chromium
async def test_a_token_in_the_fragment_signs_in_and_a_file_that_did_not_arrive_is_sent_again_into_the_dataset_made_for_it(
    built_console: None, browser: Browser, ada: Client, worker: object
) -> None:
    async with open_console(browser, f"{ada.url}/graphql#token={ada.token}") as console:
        await console.page.get_by_text("Signed in as ada").wait_for()
        assert console.page.url == f"{ada.url}/graphql", "the token leaves the address"
        await console.page.route("**/uploads/**", lambda route: route.abort(), times=1)
        await console.upload("flowers.csv", FLOWERS)
        await console.page.get_by_text("The browser could not send the file to http").wait_for()
        await console.page.get_by_role("button", name="Upload", exact=True).click()
        await console.page.get_by_text("Version 2 is ready: 3 rows").wait_for()
        await console.page.get_by_role("button", name="Hide Upload").click()

        await console.page.get_by_role("button", name="Show plan").click()
        await console.run(4, "RankRuns")
        await console.page.get_by_text("The API shows plans to admins, and to everybody where TRELLIS_SHOW_PLANS is true.").wait_for()
    answer = await ada.one("{ datasets { edges { node { name currentVersion { number } } } } }")
    assert [edge["node"] for edge in answer["edges"]] == [{"name": "flowers", "currentVersion": {"number": 2}}]


@pytest.mark.exhaustive
@needs_chromium
async def test_a_plan_is_shown_beside_its_answer_in_the_theme_of_the_system_and_hidden_again_by_keyboard(
    built_console: None, browser: Browser, admin: Client
) -> None:
    async with open_console(browser, f"{admin.url}/graphql#token={admin.token}") as console:
        await console.page.get_by_text("Signed in as").wait_for()
        await console.page.get_by_role("button", name="Show plan").focus()
        await console.page.keyboard.press("Enter")
        pane = console.page.get_by_label("Plan", exact=True)
        await pane.get_by_text("Run a query or a mutation to see how it is executed.").wait_for()
        await console.run(4, "RankRuns")
        await pane.locator("summary, li").first.wait_for()
        assert (await console.answer()).keys() == {"data"}, "the answer is shown without its plan"
        text = await pane.inner_text()
        assert "a row by" in text
        assert re.search(r"\d+ statements?, \d+ rows?, [\d.]+ ms \(database [\d.]+, own [\d.]+\)", text)
        colors = set()
        for scheme, theme in (("dark", "vs-dark"), ("light", "vs"), ("dark", "vs-dark")):
            await console.page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType] - one of its literals
            await console.page.locator(f".graphiql-query-editor .monaco-editor.{theme}").first.wait_for()
            colors.add(await pane.evaluate("pane => getComputedStyle(pane).color"))
        assert len(colors) == 2
        await console.page.get_by_role("button", name="Hide plan").focus()
        await console.page.keyboard.press("Space")
        await pane.wait_for(state="detached")
        assert console.complaints == []


@needs_chromium
@pytest.mark.exhaustive
async def test_the_token_is_entered_once_and_kept_where_no_script_reads_it(built_console: None, browser: Browser, ada: Client) -> None:
    async with open_console(browser, f"{ada.url}/graphql") as console:
        await console.sign_in("trk_of_nobody")
        await console.page.get_by_text("The API does not know this token.").wait_for()
        await console.sign_in(ada.token or "")
        signed_in = console.page.get_by_text("Signed in as ada")
        await signed_in.wait_for()
        (cookie,) = await console.page.context.cookies()
        assert (cookie.get("value"), cookie.get("httpOnly"), cookie.get("sameSite")) == (ada.token, True, "Lax")
        assert await console.page.evaluate("() => document.cookie") == ""
        assert ada.token not in await console.page.evaluate("() => JSON.stringify([localStorage, sessionStorage])")
        await console.page.reload()
        await signed_in.wait_for()
        await console.page.get_by_role("button", name="Sign out").click()
        await console.page.get_by_label("API token").wait_for()
        assert await console.page.context.cookies() == []
        await console.page.reload()
        await console.page.get_by_label("API token").wait_for()
        await console.page.evaluate("token => localStorage.setItem('trellis:token', token)", ada.token)  # as an earlier release kept it
        await console.page.reload()
        await signed_in.wait_for()
        assert ada.token not in await console.page.evaluate("() => JSON.stringify(localStorage)")


@pytest.mark.parametrize("tab", TABS, ids=lambda path: path.stem)
def test_each_tab_is_valid_and_its_variables_fit(tab: Path) -> None:
    schema = build_schema(Path("graph/schema.graphql").read_text())
    document = parse(tab.read_text())
    assert validate(schema, document) == []
    variables = json.loads(tab.with_suffix(".json").read_text())
    used_names: set[str] = set()
    for operation in document.definitions:
        assert isinstance(operation, OperationDefinitionNode)
        definitions = operation.variable_definitions or ()
        names = {definition.variable.name.value for definition in definitions}
        assert not isinstance(get_variable_values(schema, definitions, {name: variables[name] for name in names}), list)
        used_names |= names
    assert used_names == set(variables)


def test_what_the_panel_of_tutorials_asks_is_valid() -> None:
    schema = build_schema(Path("graph/schema.graphql").read_text())
    source = Path("server/console/src/tutorials/api.ts").read_text()
    fragment, *operations = re.findall(r"= `((?:fragment|query|mutation) [^`]*)`", source)
    assert len(operations) == 3
    for operation in operations:
        assert validate(schema, parse(f"{operation} {fragment}")) == []


async def test_the_pipeline_of_the_train_tab_is_sound(ada: Client) -> None:
    variables = json.loads(Path("server/console/src/tabs/3-train.json").read_text())
    answer = await ada.one(
        "mutation($input: CreatePipelineInput!) { createPipeline(input: $input) {"
        " ... on CreatePipelinePayload { pipeline { status } } ... on InvalidInput { issues { path message } } } }",
        input={"name": variables["pipelineName"], "definition": variables["definition"]},
    )
    assert answer == {"pipeline": {"status": "VALIDATED"}}


async def test_the_page_runs_only_our_own_scripts_and_its_assets_are_kept(built_console: None, ada: Client) -> None:
    async with httpx.AsyncClient(base_url=ada.url, verify=False) as visitor:
        page_response = await visitor.get("/graphql", headers={"accept": "text/html"})
        script = page_response.text.split('src="')[1].split('"')[0]
        asset = await visitor.get(script)
        missing = await visitor.get("/console/assets/index-of-an-older-build.js")
    policy = dict(directive.split(" ", 1) for directive in page_response.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["worker-src"]) == ("'none'", "'self'", "'self'")
    assert policy["frame-ancestors"] == "'none'"
    assert page_response.headers["cache-control"] == "no-cache"
    assert asset.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert asset.headers["content-encoding"] == "gzip"
    assert missing.status_code == 404


def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    request = PageRequest({"type": "http", "method": "GET", "path": "/graphql", "headers": [(b"host", b"trellis.example:8000")]})
    response = page(request, upload_origin="https://files.example", dist=tmp_path)
    assert response.status_code == 503
    assert "<code>make console</code>" in bytes(response.body).decode()
    assert response.headers["content-security-policy"] == content_security_policy("trellis.example:8000", "https://files.example")


@pytest.mark.parametrize("host", ["x; script-src *", "a b", "", "evil\r\nx: y"])
def test_a_strange_host_stays_out_of_the_policy(host: str) -> None:
    assert "connect-src 'self';" in content_security_policy(host, None)


@pytest.mark.parametrize("origin", ["https://files.example/path", "files.example", "https://a; script-src *"])
def test_what_is_no_origin_is_refused_as_one(origin: str) -> None:
    with pytest.raises(ValueError, match="is not an origin"):
        content_security_policy("localhost", origin)
