"""A browser is signed in by a cookie that its scripts cannot read, and that counts only in requests which no other site's page can cause."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from graph.core.session_cookie import NO_POST
from server.protocol.session_cookie import FOREIGN_ORIGIN, NEEDS_HEADER, NO_TLS, SECURE_NAME, TWO_CREDENTIALS
from tests.client import PASSWORD, Client
from tests.server.test_sockets import (
    UPDATES,
    VIEWER_QUERY,
    bearer,
    open_websocket,
    receive_message,
    send_message,
    send_subscribe,
    wait_closed,
)

SignIn = Callable[[str], Awaitable[Client]]
LOGIN = (
    "mutation($input: LoginInput!) { login(input: $input) { __typename ... on LoginPayload { token session { id } viewer { username } }"
    " ... on InvalidInput { issues { path message } } } }"
)
HEADER = {"graphql-preflight": "1"}
WHO = {"query": "{ viewer { username } }"}


class Browser:
    """A page of the API's own origin: it keeps the cookie and sends it with each request. `host` is the address that it believes to be at."""

    def __init__(self, client: Client, scheme: str = "http", host: str | None = None) -> None:
        self.host = host or client.url.removeprefix("http://")
        self.origin = f"{scheme}://{self.host}"
        self.cookie: dict[str, str] = {}
        proxied = {"x-forwarded-proto": scheme} if scheme == "https" else {}
        self.http = httpx.AsyncClient(base_url=client.url, headers={"host": self.host, **proxied}, timeout=30, verify=False)
        self.last_cookie: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookie.items())} if self.cookie else {}

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**HEADER, "origin": self.origin, **self.headers, **options.pop("headers", {})}
        headers = {name: value for name, value in headers.items() if value}
        answer = await self.http.request(method, path, headers=headers, **options)
        self.last_cookie = answer.headers.get("set-cookie")
        self.http.cookies.clear()
        for name, morsel in SimpleCookie(self.last_cookie or "").items():
            self.cookie[name] = morsel.value
            if morsel["max-age"] == "0":
                del self.cookie[name]
        return answer

    async def login(self, login: str, **headers: str) -> dict[str, Any]:
        variables = {"input": {"login": login, "password": PASSWORD, "transport": "COOKIE"}}
        answer = await self.send("POST", "/graphql", json={"query": LOGIN, "variables": variables}, headers=headers)
        return answer.json()["data"]["login"]

    async def one(self, query: str, **variables: Any) -> Any:
        answer = (await self.send("POST", "/graphql", json={"query": query, "variables": variables})).json()
        (value,) = answer["data"].values()
        return value

    async def username(self) -> str | None:
        answer = (await self.send("POST", "/graphql", json=WHO)).json()
        return answer["data"]["viewer"]["username"] if answer.get("data") else None


OpenBrowser = Callable[..., Browser]


@pytest.fixture
async def open_browser() -> AsyncGenerator[OpenBrowser]:
    opened: list[Browser] = []

    def open_one(*arguments: Any) -> Browser:
        opened.append(Browser(*arguments))
        return opened[-1]

    yield open_one
    for browser in opened:
        await browser.http.aclose()


@pytest.fixture
async def page(ada: Client, sign_in: SignIn, open_browser: OpenBrowser) -> Browser:
    """Ada's browser, signed in."""
    await sign_in("ada")
    browser = open_browser(ada)
    assert (await browser.login("ada"))["__typename"] == "LoginPayload"
    return browser


async def test_a_sign_in_sets_the_cookie_and_hides_the_token(ada: Client, sign_in: SignIn, open_browser: OpenBrowser) -> None:
    await sign_in("ada")
    browser = open_browser(ada)
    port = ada.url.rsplit(":", 1)[1]
    answer = await browser.login("ada")
    assert (answer["token"], answer["viewer"]) == (None, {"username": "ada"})
    assert re.fullmatch(rf"trellis-{port}=trs_[\w-]{{43}}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax", browser.last_cookie or "")
    assert await browser.username() == "ada"
    (current,) = [session["id"] for session in await ada.one("{ sessions { id browser } }") if session["id"] == answer["session"]["id"]]
    assert current == answer["session"]["id"]


async def test_over_tls_the_cookie_is_bound_to_the_host(ada: Client, sign_in: SignIn, open_browser: OpenBrowser) -> None:
    await sign_in("ada")
    browser = open_browser(ada, "https", "trellis.example.org")
    await browser.login("ada")
    assert browser.last_cookie is not None
    assert browser.last_cookie.startswith(f"{SECURE_NAME}=trs_")
    assert browser.last_cookie.endswith("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax; Secure")
    assert await browser.username() == "ada"


@pytest.mark.parametrize(
    ("place", "headers", "reason"),
    [
        (("http", "trellis.example.org"), {}, NO_TLS),
        ((), {"graphql-preflight": ""}, NEEDS_HEADER),
        ((), {"origin": "https://evil.example"}, FOREIGN_ORIGIN),
        ((), {"origin": ""}, FOREIGN_ORIGIN),
        (("https", "trellis.example.org"), {"origin": "http://trellis.example.org"}, FOREIGN_ORIGIN),
    ],
    ids=["no TLS", "no header", "foreign", "no origin", "downgraded"],
)
async def test_no_cookie_is_set_where_it_could_be_misused(
    ada: Client, sign_in: SignIn, open_browser: OpenBrowser, place: tuple[str, ...], headers: dict[str, str], reason: str
) -> None:
    await sign_in("ada")
    browser = open_browser(ada, *place)
    before = await ada.one("{ sessions { id } }")
    answer = await browser.login("ada", **headers)
    assert (answer["__typename"], answer["issues"]) == ("InvalidInput", [{"path": ["transport"], "message": reason}])
    exchanged = await browser.send("POST", "/auth/cookie", headers={**bearer(ada), **headers})
    assert (exchanged.status_code, exchanged.json()["errors"][0]["message"]) == (403, reason)
    assert browser.cookie == {}
    assert await ada.one("{ sessions { id } }") == before


async def test_no_cookie_is_set_over_a_websocket(ada: Client, sign_in: SignIn) -> None:
    await sign_in("ada")
    async with open_websocket(ada.url, {}, origin=ada.url) as socket:
        variables = {"input": {"login": "ada", "password": PASSWORD, "transport": "COOKIE"}}
        await send_subscribe(socket, "1", LOGIN, variables=variables)
        answer = (await receive_message(socket))["payload"]["data"]["login"]
    assert answer == {"__typename": "InvalidInput", "issues": [{"path": ["transport"], "message": NO_POST}]}


async def test_the_cookie_alone_is_not_enough(page: Browser) -> None:
    """As a form or an image of another site would send it, and a stolen cookie without the header."""
    for headers, message in (
        ({"graphql-preflight": ""}, NEEDS_HEADER),
        ({"origin": "https://evil.example"}, FOREIGN_ORIGIN),
        ({"origin": "null"}, FOREIGN_ORIGIN),
    ):
        answer = await page.send("POST", "/graphql", json=WHO, headers=headers)
        assert (answer.status_code, answer.json()["errors"][0]["message"]) == (403, message)
        removal = await page.send("DELETE", "/auth/cookie", headers=headers)
        assert (removal.status_code, removal.json()["errors"][0]["message"]) == (403, message)
    by_url = await page.send("GET", "/graphql", params=WHO, headers={"graphql-preflight": "", "sec-fetch-site": "same-origin"})
    assert (by_url.status_code, by_url.json()["errors"][0]["message"]) == (403, NEEDS_HEADER)
    assert (await page.send("GET", "/graphql", params=WHO, headers={"origin": ""})).json() == {"data": {"viewer": {"username": "ada"}}}
    assert await page.username() == "ada"


async def test_a_cookie_and_a_token_in_one_request_are_refused(page: Browser, ada: Client, bob: Client) -> None:
    answer = await page.send("POST", "/graphql", json=WHO, headers=bearer(bob))
    assert (answer.status_code, answer.json()["errors"][0]["message"]) == (400, TWO_CREDENTIALS)
    async with open_websocket(ada.url, None, origin=ada.url, additional_headers=page.headers) as socket:
        await send_message(socket, type="connection_init", payload=bearer(bob))
        assert await wait_closed(socket) == (4400, TWO_CREDENTIALS)


async def test_signing_out_ends_the_session_and_removes_the_cookie(page: Browser, ada: Client) -> None:
    stolen = dict(page.cookie)
    assert await page.one("mutation { logout { __typename } }") == {"__typename": "LogoutPayload"}
    assert page.cookie == {}
    page.cookie = stolen
    refused = await page.send("POST", "/graphql", json=WHO)
    assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    assert page.cookie == {}, "a browser whose cookie is void could not even sign in again"
    assert (await page.login("ada"))["viewer"] == {"username": "ada"}
    before = await ada.one("{ sessions { id } }")
    assert (await page.send("DELETE", "/auth/cookie")).status_code == 204
    assert (page.cookie, len(await ada.one("{ sessions { id } }"))) == ({}, len(before) - 1)
    events = (await ada.one("{ auditEvents(first: 1) { edges { node { action ipAddress actor { username } } } } }"))["edges"]
    assert events == [{"node": {"action": "logout", "ipAddress": "127.0.0.1", "actor": {"username": "ada"}}}]


async def test_a_websocket_of_our_own_page_is_signed_in_by_the_cookie_until_its_session_ends(page: Browser, ada: Client) -> None:
    (session,) = [one["id"] for one in await page.one("{ sessions { id isCurrent } }") if one["isCurrent"]]
    async with open_websocket(ada.url, {}, origin=ada.url, additional_headers=page.headers) as socket:
        await send_subscribe(socket, "1", VIEWER_QUERY)
        assert (await receive_message(socket))["payload"] == {"data": {"viewer": {"username": "ada"}}}
        ended = await page.one("mutation($id: ID!) { revokeSession(input: {id: $id}) { __typename } }", id=session)
        assert ended == {"__typename": "RevokeSessionPayload"}
        async with asyncio.timeout(2):
            assert (await wait_closed(socket))[0] == 4403
    async with open_websocket(ada.url, {}, additional_headers=page.headers) as socket:  # by no page
        await send_subscribe(socket, "1", UPDATES, variables={"id": "job_" + "0" * 32})
        assert (await receive_message(socket))["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    with pytest.raises(InvalidStatus) as refused:
        async with open_websocket(ada.url, {}, origin="https://evil.example", additional_headers=page.headers):
            pass
    assert refused.value.response.status_code == 403


async def test_a_token_is_exchanged_for_the_cookie(ada: Client, open_browser: OpenBrowser) -> None:
    browser = open_browser(ada)
    assert (await browser.send("POST", "/auth/cookie", headers=bearer(ada))).status_code == 204
    assert browser.last_cookie == f"trellis-{ada.url.rsplit(':', 1)[1]}={ada.token}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"
    assert await browser.username() == "ada"
    assert (await browser.send("DELETE", "/auth/cookie")).status_code == 204
    assert browser.cookie == {}
    assert await ada.one("{ viewer { username } }") == {"username": "ada"}, "a key is not a session: it stays valid"
    for headers in ({}, {"authorization": "Bearer trk_nobody"}):
        refused = await browser.send("POST", "/auth/cookie", headers=headers)
        assert (refused.status_code, refused.json()["errors"][0]["extensions"]["code"]) == (401, "UNAUTHENTICATED")
        assert browser.cookie == {}
