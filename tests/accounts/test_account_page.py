"""The account page in a real browser: what it changes is changed, and it runs nothing but our own scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from graphql import GraphQLSchema, build_schema, parse, validate
from pyotp.totp import TOTP
from sqlalchemy import text, update
from starlette.requests import Request

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.tables import User, UserSession
from server.console.page import account_page
from tests.accounts.account_page import open_account
from tests.accounts.authenticator import SignIn
from tests.accounts.identity_provider import Realm
from tests.accounts.mailbox import Post, body, token_of
from tests.accounts.test_sign_in_page import add_device
from tests.client import PASSWORD, Client, GraphQLErrors
from tests.server.console_page import needs_chromium
from tests.server.serving import serving

if TYPE_CHECKING:
    from playwright.async_api import Browser

SOURCES = Path("server/console/src/account")
DOCUMENT = re.compile(r"graphql`([^`]*)`")


@needs_chromium
@pytest.mark.exhaustive
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
        await page.get_by_text("Signed in as countess").wait_for()
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
        await account.row("nightly").get_by_role("button", name="Replace").click()
        await page.get_by_label("The old key ends").select_option("in an hour")
        await page.get_by_role("button", name="Replace key").click()
        new_secret = await page.get_by_label("Secret of the key").input_value()
        await page.get_by_role("button", name="I have stored it").click()
        old = account.row("nightly").filter(has_text=secret[:12])
        replaced = await ada.one("{ apiKeys(first: 2) { edges { node { scopes pointsPerMinute expiresAt } } } }")
        assert [(key["node"]["pointsPerMinute"], key["node"]["expiresAt"] is None) for key in replaced["edges"]] == [
            (500, True),
            (500, False),
        ]
        await old.get_by_role("button", name="Revoke").click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await old.get_by_text("revoked").wait_for()
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

        assert [text for text in (PASSWORD, secret, new_secret, "Lovelace") if text in await account.kept()] == []
        assert await page.evaluate("() => localStorage.length + sessionStorage.length") == 0
        assert account.origins == {ada.url.removeprefix("http://")}
        assert account.complaints == []


@pytest.mark.exhaustive
@needs_chromium
async def test_an_app_for_codes_is_added_on_the_page_and_asked_for(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn, database: Database
) -> None:
    await sign_in("ada")
    async with open_account(browser, ada.url) as account:
        page = account.page
        await account.sign_in("ada")
        await page.get_by_text("Signed in as ada").wait_for()
        before = await ada.one("{ sessions { id } }")
        async with database.work(SYSTEM) as work:
            await work.run(update(UserSession).values(checked_at=text("now() - interval '10 minutes'")))
        await account.show("Signing in")
        await page.get_by_label("Password", exact=True).fill(PASSWORD)
        await page.get_by_role("button", name="Continue").click()
        dialog = page.get_by_role("dialog", name="Confirm that it is you")
        await dialog.get_by_label("Password").fill("wrong password")
        await page.keyboard.press("Enter")
        await dialog.get_by_role("alert").wait_for()
        await dialog.get_by_label("Password").fill(PASSWORD)
        await page.keyboard.press("Enter")
        app = TOTP(await page.get_by_label("Secret", exact=True).input_value())
        assert len(await ada.one("{ sessions { id } }")) == len(before), "the session that was too old has ended"
        code = page.get_by_label("Code that the app shows")
        await code.fill("letters")
        await page.get_by_role("button", name="Confirm").click()
        await page.get_by_role("alert").wait_for()
        assert await ada.one("{ viewer { hasTotp } }") == {"hasTotp": False}
        await code.fill(app.now())
        await page.get_by_role("button", name="Confirm").click()
        async with page.expect_download() as download:
            await page.get_by_role("link", name="Download").click()
        kept = Path(await (await download.value).path()).read_text().splitlines()[3:]
        assert kept == await page.locator(".codes code").all_inner_texts()
        await page.get_by_role("button", name="I have stored them").click()
        await page.get_by_text("You have 10 backup codes left.").wait_for()
        assert await ada.one("{ viewer { hasTotp backupCodesLeft } }") == {"hasTotp": True, "backupCodesLeft": 10}

        await page.get_by_role("button", name="Sign out").click()
        await account.sign_in("ada")
        await page.get_by_label("Code", exact=True).fill(kept[0])
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await page.get_by_text("You have 9 backup codes left.").wait_for()
        assert [secret for secret in (app.secret, *kept) if secret in await account.kept()] == []
        assert account.complaints == []


@pytest.mark.exhaustive
@needs_chromium
async def test_the_chart_has_the_requests_made_and_the_audit_what_was_changed(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn
) -> None:
    await sign_in("ada")
    async with serving(usage_recording=True) as url:  # it writes all that it counted when it ends
        recorded = Client(url, ada.token)
        for _ in range(4):
            await recorded.one("query Names { viewer { username } }")
        for _ in range(3):
            assert (await recorded.post("query Broken { nothing }"))["errors"]
        await recorded.close()
    dataset = await ada.create_dataset("wine")
    change = "mutation($input: UpdateDatasetInput!) { updateDataset(input: $input) { ... on UpdateDatasetPayload { dataset { name } } } }"
    assert await ada.one(change, input={"id": dataset, "name": "wine of Jura"}) == {"dataset": {"name": "wine of Jura"}}
    async with open_account(browser, ada.url) as account:
        page = account.page
        await account.sign_in("ada")
        await account.show("Usage")
        chart = page.get_by_role("img", name="Requests by hour", exact=True)
        await chart.wait_for()
        assert await chart.locator("desc").text_content() == "7 requests, 3 with errors, in 24 periods. The table below has each of them."
        bars = [re.findall(r": (\d+) requests, (\d+) errors", title)[0] for title in await chart.locator("g > title").all_text_contents()]
        assert (len(bars), sum(int(bar[0]) for bar in bars), sum(int(bar[1]) for bar in bars)) == (24, 7, 3)
        for operation, counts in {"Names": "4\t0", "Broken": "3\t3", "first token": "7\t3"}.items():
            assert counts in await account.row(operation).inner_text(), operation
        await page.get_by_text("The chart as a table").focus()
        await page.keyboard.press("Enter")
        assert await page.get_by_role("row").filter(has_text=re.compile(r"\d\d:\d\d")).count() == 24
        await page.get_by_label("Period", exact=True).select_option("30 days")
        await page.get_by_role("img", name="Requests by day").wait_for()

        await page.set_viewport_size({"width": 360, "height": 740})
        await account.show("Audit")
        await page.get_by_label("Action", exact=True).fill("update_dataset")
        await page.get_by_role("button", name="Filter").click()
        await account.row("create_dataset").wait_for(state="detached")
        change_row = account.row(dataset)
        assert await change_row.count() == 1
        assert (await change_row.locator("del").all_inner_texts(), await change_row.locator("ins").all_inner_texts()) == (
            ["wine"],
            ["wine of Jura"],
        )
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        colors = set()
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme=scheme)
            colors.add(await page.evaluate("() => getComputedStyle(document.body).color + getComputedStyle(document.body).backgroundColor"))
        assert len(colors) == 2
        assert account.complaints == []


@pytest.mark.exhaustive
@needs_chromium
async def test_a_team_is_made_and_a_provider_linked_on_the_page(
    built_console: None,
    browser: Browser,
    ada: Client,
    bob: Client,
    sign_in: SignIn,
    add_provider: Callable[..., Realm],
    post: Post,
    database: Database,
) -> None:
    add_provider("one", sub="7", email="ada@elsewhere.example")
    for name in ("ada", "bob"):
        await sign_in(name)
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "bob").values(email_verified_at=text("now()")))
    async with open_account(browser, ada.url) as account:
        page = account.page
        await account.sign_in("ada")
        await account.show("Teams")
        await page.get_by_text("You are in no team.").wait_for()
        await page.get_by_role("button", name="New team").click()
        await page.get_by_label("Name", exact=True).fill("Vintners")
        await page.get_by_label("Short name").fill("bob")
        await page.get_by_role("button", name="Make team").click()
        await page.get_by_role("alert").wait_for()
        await page.get_by_label("Short name").fill("vintners")
        await page.get_by_role("button", name="Make team").click()
        await page.get_by_role("region", name="Vintners").get_by_role("row").filter(has_text="you").get_by_text("ADMIN").wait_for()
        (membership,) = (await ada.one("{ viewer { teams { role team { id username fullName } } } }"))["teams"]
        team = membership["team"]
        assert (membership["role"], team["username"], team["fullName"]) == ("ADMIN", "vintners", "Vintners")
        await page.get_by_label("Address of who is invited").fill("bob@example.org")
        await page.get_by_label("Role of who is invited").select_option("VIEWER")
        await page.get_by_role("button", name="Invite", exact=True).click()
        await account.row("bob@example.org").wait_for()
        (mail,) = [mail for mail in await post.send() if mail["To"] == "bob@example.org"]
        async with open_account(browser, ada.url, f"/accept-invitation#token={token_of(mail)}") as other:
            await other.sign_in("bob")
            await other.page.get_by_role("button", name="Accept").click()
            await other.page.get_by_text("You are VIEWER of Vintners now.").wait_for()
            assert other.complaints == []
        await page.reload()
        await page.get_by_role("button", name="Change role of bob").click()
        await page.keyboard.press("Escape")
        assert await page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "Change role of bob"
        await page.keyboard.press("Enter")
        await page.get_by_label("Role in the team").select_option("MEMBER")
        await page.get_by_role("dialog").get_by_role("button", name="Change role").click()
        await account.row("bob").get_by_text("MEMBER").wait_for()
        assert (await bob.one("{ viewer { teams { role } } }"))["teams"] == [{"role": "MEMBER"}]
        await page.get_by_role("button", name="Leave vintners").click()
        await page.get_by_role("dialog").get_by_role("button", name="Leave").click()
        await page.get_by_role("dialog").get_by_text("ADMIN").wait_for()  # why not: nobody else is one
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        await page.get_by_role("button", name="Remove bob").click()
        await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await account.row("bob").wait_for(state="detached")
        assert (await bob.one("{ viewer { teams { role } } }"))["teams"] == []

        await account.show("Signing in")
        await page.get_by_role("link", name="Link one").click()
        await account.row("ada@elsewhere.example").wait_for()
        assert await page.get_by_role("heading", level=1).inner_text() == "Signing in"
        linked = "{ viewer { oauthIdentities { provider subject } } }"
        assert await ada.one(linked) == {"oauthIdentities": [{"provider": "one", "subject": "7"}]}
        await account.row("ada@elsewhere.example").get_by_role("button", name="Unlink").click()
        await page.get_by_role("dialog").get_by_role("button", name="Unlink").click()
        await page.get_by_role("link", name="Link one").wait_for()
        assert await ada.one(linked) == {"oauthIdentities": []}
        assert account.complaints == []


@pytest.mark.exhaustive
@needs_chromium
async def test_mails_lead_to_pages_that_reset_a_password_and_verify_an_address(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn, post: Post
) -> None:
    await sign_in("ada")
    async with open_account(browser, ada.url) as account:
        page = account.page
        await page.get_by_role("link", name="Forgot your password?").click()
        await page.get_by_label("E-mail address of your account").fill("ada@example.org")
        await page.get_by_role("button", name="Send a mail").click()
        await page.get_by_text("a mail goes there").wait_for()
        (mail,) = await post.send(public_url="https://trellis.example")
        (link,) = re.findall(r"https://trellis.example(/\S+)", body(mail))[:1]
        await page.goto(f"{ada.url}{link}")
        await page.get_by_label("New password").fill("password")
        await page.get_by_role("button", name="Set password").click()
        await page.get_by_role("alert").wait_for()
        assert page.url == f"{ada.url}/reset-password"
        await page.get_by_label("New password").fill("staple of a better battery")
        await page.get_by_role("button", name="Set password").click()
        await page.get_by_role("link", name="Sign in").click()
        await account.sign_in("ada", "staple of a better battery")

        await page.get_by_label("New address").fill("ada@new.example")
        address = page.get_by_role("form", name="E-mail address")
        await address.get_by_label("Password").fill("wrong password")
        await page.get_by_role("button", name="Change address").click()
        await address.get_by_role("alert").wait_for()
        await address.get_by_label("Password").fill("staple of a better battery")
        await page.get_by_role("button", name="Change address").click()
        await page.get_by_text("A mail goes to ada@new.example.").wait_for()
        assert await ada.one("{ viewer { email } }") == {"email": "ada@example.org"}
        mails = {mail["To"]: mail for mail in await post.send(public_url="https://trellis.example")}
        await page.goto(f"{ada.url}/verify-email#token={token_of(mails['ada@new.example'])}")
        await page.get_by_role("button", name="Verify").click()
        await page.get_by_text("ada@new.example is the address of ada.").wait_for()
        assert await ada.one("{ viewer { email } }") == {"email": "ada@new.example"}
        assert account.complaints == []


@pytest.mark.exhaustive
@needs_chromium
async def test_an_account_is_deleted_and_restored_on_the_page(
    built_console: None, browser: Browser, ada: Client, admin: Client, sign_in: SignIn
) -> None:
    await sign_in("ada")
    names = "{ users { edges { node { username } } } }"
    async with open_account(browser, ada.url) as account:
        page = account.page
        await account.sign_in("ada")
        await page.get_by_role("button", name="Delete my account").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Password").fill("wrong password")
        await dialog.get_by_role("button", name="Delete my account").click()
        await dialog.get_by_role("alert").wait_for()
        await dialog.get_by_label("Password").fill(PASSWORD)
        await dialog.get_by_role("button", name="Delete my account").click()
        await page.get_by_role("dialog", name="Your account is deleted").get_by_role("button", name="Close").click()
        await page.get_by_role("button", name="Restore a deleted account").click()
        assert [edge["node"]["username"] for edge in (await admin.one(names))["edges"]] == ["admin"]
        form = page.get_by_role("form", name="Restore a deleted account")
        await form.get_by_label("Address or username that it had").fill("ada")
        await form.get_by_label("Password that it had").fill(PASSWORD)
        await form.get_by_role("button", name="Restore").click()
        await page.get_by_text("Signed in as ada").wait_for()
        assert sorted(edge["node"]["username"] for edge in (await admin.one(names))["edges"]) == ["ada", "admin"]
        assert [line for line in account.complaints if "401" not in line] == []


@pytest.mark.exhaustive
@needs_chromium
async def test_a_passkey_is_added_on_the_page_confirms_who_acts_and_is_removed(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn, database: Database
) -> None:
    await sign_in("ada")
    passkeys = "{ viewer { passkeys { name } } }"
    async with open_account(browser, ada.url.replace("127.0.0.1", "localhost")) as account:
        page = account.page
        await add_device(page)
        await account.sign_in("ada")
        await account.show("Signing in")
        add = page.get_by_role("form", name="Add a passkey")
        await add.get_by_label("Name of the new passkey").fill("laptop")
        await add.get_by_role("button", name="Add a passkey").click()
        await account.row("laptop").get_by_text("never").wait_for()
        assert (await ada.one(passkeys))["passkeys"] == [{"name": "laptop"}]

        async with database.work(SYSTEM) as work:
            await work.run(update(UserSession).values(checked_at=text("now() - interval '10 minutes'")))
        await account.row("laptop").get_by_role("button", name="Remove").click()
        await page.get_by_role("dialog").get_by_role("button", name="Remove").click()
        await page.get_by_role("dialog", name="Confirm that it is you").get_by_role("button", name="Use a passkey").click()
        await page.get_by_text("You have no passkeys.").wait_for()
        assert (await ada.one(passkeys))["passkeys"] == []
        assert account.complaints == []


@pytest.fixture(scope="module")
def released_schema() -> GraphQLSchema:
    return build_schema(Path("graph/schema.graphql").read_text())


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.ts*")), ids=lambda path: path.stem)
def test_each_document_is_valid(path: Path, released_schema: GraphQLSchema) -> None:
    (problem,) = (document for document in DOCUMENT.findall((SOURCES / "api.ts").read_text()) if "fragment Problem" in document)
    for document in DOCUMENT.findall(path.read_text()):
        if document != problem:
            assert validate(released_schema, parse(document + problem if "...Problem" in document else document)) == []


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
