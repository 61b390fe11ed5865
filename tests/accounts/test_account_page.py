"""The account page in a real browser: what it changes is changed, and it runs nothing but our own scripts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from graphql import build_schema, parse, validate
from starlette.requests import Request

from server.console.page import account_page
from tests.accounts.account_page import open_account
from tests.accounts.authenticator import SignIn
from tests.client import PASSWORD, Client, GraphQLErrors
from tests.server.console_page import browser, built_console, needs_chromium

if TYPE_CHECKING:
    from playwright.async_api import Browser

__all__ = ["browser", "built_console"]  # fixtures
SOURCES = Path("server/console/src/account")
DOCUMENT = re.compile(r"graphql`([^`]*)`")


@needs_chromium
async def test_names_keys_and_sessions_are_changed_on_the_page(
    built_console: None, browser: Browser, ada: Client, bob: Client, sign_in: SignIn
) -> None:
    other = await sign_in("ada")
    async with open_account(browser, ada.url) as account:
        page = account.page
        await account.sign_in("ada", "wrong password")
        await page.get_by_text("No account has this name and this password").wait_for()
        await account.sign_in("ada")
        await page.get_by_label("Username", exact=True).fill("bob")
        await page.get_by_label("Full name").fill("Ada Lovelace")
        await page.get_by_role("button", name="Save").click()
        refusal = page.get_by_role("alert")
        await refusal.wait_for()
        username = page.get_by_label("Username", exact=True)
        assert (await refusal.get_attribute("id") or "none") in (await username.get_attribute("aria-describedby") or "").split()
        assert await username.evaluate("field => field === document.activeElement")
        assert await ada.one("{ viewer { username fullName } }") == {"username": "ada", "fullName": "Ada"}
        await username.fill("countess")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Saved.").wait_for()
        assert await ada.one("{ viewer { username fullName } }") == {"username": "countess", "fullName": "Ada Lovelace"}

        await account.show("API keys")
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("Name").fill("nightly")
        await page.get_by_role("checkbox", name="account", exact=True).check()
        await page.get_by_label("Points a minute").fill("500")
        await page.get_by_role("button", name="Create key").click()
        secret = await page.get_by_label("Secret of the key").input_value()
        await page.get_by_role("button", name="I have stored it").click()
        await account.row("nightly").get_by_text("read, account").wait_for()
        assert secret not in await page.content()
        program = Client(ada.url, secret)
        assert (await program.one("{ apiKeys(first: 1) { edges { node { name scopes pointsPerMinute } } } }"))["edges"] == [
            {"node": {"name": "nightly", "scopes": ["READ", "ACCOUNT"], "pointsPerMinute": 500}}
        ]
        await account.row("nightly").get_by_role("button", name="Revoke").click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await account.row("nightly").get_by_text("revoked").wait_for()
        assert (await program.post("{ viewer { id } }"))["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        await program.close()

        await account.show("Sessions")
        assert await account.row("this one").get_by_role("button").count() == 0
        await account.row("python-httpx").get_by_role("button", name="Revoke").click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await page.get_by_role("button", name="Revoke all others").wait_for(state="detached")
        with pytest.raises(GraphQLErrors) as refused:
            await other.one("{ viewer { id } }")
        assert refused.value.codes == ["UNAUTHENTICATED"]
        assert [session["isCurrent"] for session in await ada.one("{ sessions { isCurrent } }")] == [False]

        assert [text for text in (PASSWORD, secret, "Lovelace") if text in await account.kept()] == []
        assert await page.evaluate("() => localStorage.length + sessionStorage.length") == 0
        assert account.origins == {ada.url.removeprefix("http://")}
        assert account.complaints == []


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.ts*")), ids=lambda path: path.stem)
def test_each_document_is_valid(path: Path) -> None:
    schema = build_schema(Path("graph/schema.graphql").read_text())
    (problem,) = (text for text in DOCUMENT.findall((SOURCES / "api.ts").read_text()) if "fragment Problem" in text)
    for text in DOCUMENT.findall(path.read_text()):
        if text != problem:
            assert validate(schema, parse(text + problem if "...Problem" in text else text)) == []


async def test_the_page_is_served_under_a_policy_without_inline_code(built_console: None, ada: Client) -> None:
    async with httpx.AsyncClient(base_url=ada.url, verify=False) as visitor:
        response = await visitor.get("/account")
        head = await visitor.head("/account")
        slash = await visitor.get("/account/")
        posted = await visitor.post("/account")
        loaded = [await visitor.get(path) for path in re.findall(r'(?:src|href)="(/console/assets/[^"]+)"', response.text)]
    policy = dict(directive.split(" ", 1) for directive in response.headers["content-security-policy"].split("; "))
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in response.headers["content-security-policy"]
    assert (policy["connect-src"], policy["frame-ancestors"], policy["require-trusted-types-for"]) == ("'self'", "'none'", "'script'")
    assert (response.headers["content-type"], response.headers["cache-control"]) == ("text/html; charset=utf-8", "no-cache")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(response.content)))
    assert (slash.status_code, slash.headers["location"]) == (307, "/account")
    assert (posted.status_code, set(posted.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})
    assert {asset.status_code for asset in loaded} == {200}
    scripts = [asset.text for asset in loaded if asset.headers["content-type"].startswith("text/javascript")]
    assert scripts
    assert [name for name in ("monaco", "graphql-transport-ws", "graphiql-container") if any(name in script for script in scripts)] == []


def test_a_page_that_is_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    response = account_page(Request({"type": "http", "method": "GET", "path": "/account", "headers": []}), dist=tmp_path)
    assert (response.status_code, response.headers["cache-control"]) == (503, "no-store")
    assert "<code>make console</code>" in bytes(response.body).decode()
