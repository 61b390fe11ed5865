"""The bar of the pages signs in with a password and a code, by a provider or with a passkey; neither they nor what they give reach a script's stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from db.core.work import Database
from tests.accounts.account_page import open_account
from tests.accounts.authenticator import Clock, SignIn, add_factor, history
from tests.accounts.identity_provider import Realm, identities
from tests.accounts.passkey_device import BEGIN, FINISH, PASSKEYS
from tests.accounts.test_signing_in_by_providers import ADA
from tests.client import PASSWORD, Client
from tests.server.console_page import needs_chromium, open_console

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page


@needs_chromium
async def test_a_password_and_a_code_sign_in_and_signing_out_ends_the_session(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn, clock: Clock
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    before = len(await ada.one("{ sessions { id } }"))
    async with open_console(browser, f"{ada.url}/graphql") as console:
        page = console.page
        enter = page.get_by_role("button", name="Sign in", exact=True)
        await page.get_by_role("button", name="Use a password").click()
        await page.get_by_label("E-mail address or username").fill("Ada")
        for password, told in (
            ("wrong password", "No account has this name and this password"),
            (PASSWORD, "Enter the code that your app shows"),
        ):
            await page.get_by_label("Password", exact=True).fill(password)
            await enter.click()
            await page.get_by_text(told).wait_for()
        (wrong,) = app.wrong_codes(1)
        for code, told in ((wrong, "code is"), (app.code(), "Signed in as ada")):
            await page.get_by_label("Code", exact=True).fill(code)
            await enter.click()
            await page.get_by_text(told).wait_for()
        assert len(await ada.one("{ sessions { id } }")) == before + 1
        (cookie,) = await page.context.cookies()
        kept = await page.evaluate("() => JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}])")
        assert [secret for secret in (cookie.get("value", ""), PASSWORD, app.secret) if secret in kept] == []
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_text("Sign in with your e-mail address or username").wait_for()  # the form is there before the answer is
        assert len(await ada.one("{ sessions { id } }")) == before


@pytest.mark.exhaustive
@needs_chromium
async def test_an_identity_is_linked_and_signs_in_and_the_code_is_asked_for_on_the_page(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn, clock: Clock, add_provider: Callable[..., Realm]
) -> None:
    add_provider("one", **ADA)
    session = await sign_in("ada")
    async with open_account(browser, ada.url) as account:
        page = account.page
        await account.sign_in("ada")
        await page.get_by_text("Signed in as ada").wait_for()
        await page.evaluate("() => location.assign('/auth/one/start?link=1&next=/account')")
        await page.wait_for_url("**/account")
        await page.get_by_text("Signed in as ada").wait_for()
        assert [identity["provider"] for identity in await identities(ada)] == ["one"]
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("link", name="Sign in with one").click()
        await page.get_by_text("Signed in as ada").wait_for()
        await page.get_by_role("button", name="Sign out").click()
        app = await add_factor(session, clock)
        await page.get_by_role("link", name="Sign in with one").click()
        await page.get_by_label("Code", exact=True).fill(app.code())
        assert page.url == f"{ada.url}/account"
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await page.get_by_text("Signed in as ada").wait_for()
        assert account.complaints == []


DEVICE = {"protocol": "ctap2", "transport": "internal", "hasResidentKey": True, "hasUserVerification": True, "isUserVerified": True}
ADD = """async ([begin, finish, name]) => {
  const send = async (query, input) => {
    const headers = { "Content-Type": "application/json", "GraphQL-Preflight": "1" };
    const answer = await fetch("/graphql", { method: "POST", headers, body: JSON.stringify({ query, variables: { input } }) });
    return Object.values((await answer.json()).data)[0];
  };
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON((await send(begin, { name })).options);
  const credential = await navigator.credentials.create({ publicKey });
  return send(finish, { credential: credential.toJSON() });
}"""


async def add_device(page: Page) -> None:
    """Have Chromium make passkeys on a device of its own, whose user is there and verified."""
    session = await page.context.new_cdp_session(page)
    await session.send("WebAuthn.enable")
    await session.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE | {"automaticPresenceSimulation": True}})


async def give_password(page: Page) -> None:
    await page.get_by_label("E-mail address or username").fill("ada")
    await page.get_by_label("Password", exact=True).fill(PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()


@pytest.mark.exhaustive
@needs_chromium
async def test_a_passkey_of_the_browser_signs_in_alone_and_in_place_of_a_code(
    built_console: None, browser: Browser, ada: Client, sign_in: SignIn, clock: Clock, database: Database
) -> None:
    app = await add_factor(await sign_in("ada"), clock)
    async with open_console(browser, f"{ada.url.replace('127.0.0.1', 'localhost')}/graphql") as console:
        page = console.page
        await add_device(page)
        use_passkey, signed_in = page.get_by_role("button", name="Use a passkey"), page.get_by_text("Signed in as ada")
        sign_out = page.get_by_role("button", name="Sign out")
        await page.get_by_role("button", name="Use a password").click()
        await give_password(page)
        await page.get_by_label("Code", exact=True).fill(app.code())
        assert not await use_passkey.is_visible(), "she has none yet"
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await signed_in.wait_for()
        added = await page.evaluate(ADD, [BEGIN, FINISH, "Chromium"])
        assert added["passkey"]["name"] == "Chromium", added
        await sign_out.click()

        await use_passkey.click()
        await signed_in.wait_for()
        await sign_out.click()
        await give_password(page)
        await page.get_by_label("Code", exact=True).wait_for()
        await use_passkey.click()
        await signed_in.wait_for()
        (passkey,) = (await ada.one(PASSKEYS))["passkeys"]
        assert (passkey["id"], passkey["lastUsedAt"] is None) == (added["passkey"]["id"], False)
        assert [event for event in await history(database) if event[0] == "PASSKEY"] == [("PASSKEY", None)] * 2
        assert console.complaints == []
