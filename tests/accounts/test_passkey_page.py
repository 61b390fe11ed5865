"""GraphiQL signs in with a passkey that Chromium's own device made, alone and in place of a code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from db.core.work import Database
from tests.accounts.authenticator import Clock, SignIn, add_factor, history
from tests.accounts.passkey_device import BEGIN, FINISH, PASSKEYS
from tests.client import PASSWORD, Client
from tests.server.console_page import needs_chromium, open_console

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page


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
