"""A provider's word cannot be forged, stolen, repeated or brought to another browser, and no identity is linked behind its owner's back."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc.jwk import ECKey, OctKey
from sqlalchemy import func, select, update
from structlog.testing import capture_logs

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.limits import sign_in_attempts
from db.limits.sign_in_attempts import FLOWS_PER_NETWORK
from db.services.maintenance import MaintenanceContext
from db.services.maintenance.rows import forget_sign_ins
from db.settings import StateSettings
from db.tables import LoginEvent, OAuthFlow, OAuthIdentity, User, UserSession
from server.oauth import openid
from tests.accounts.identity_provider import CLIENT_ID, CLIENT_SECRET, Realm, Visitor, identities, key, signed, told
from tests.accounts.test_session_cookie import bearer
from tests.accounts.test_signing_in_by_providers import ADA, link
from tests.client import Client

SignIn = Callable[[str], Awaitable[Client]]
AddProvider = Callable[..., Realm]
OpenVisitor = Callable[[], Visitor]
NO_FLOW = "This sign-in did not begin in this browser, was completed before, or took more than 10 minutes."
NOT_TRUSTED = "one could not be asked who you are, or gave an answer that cannot be trusted."


@pytest.fixture
async def realm(ada: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: OpenVisitor) -> Realm:
    """A provider whose person has Ada's account."""
    realm = add_provider("one", **ADA)
    await link(open_visitor(), sign_in)
    return realm


async def state_of(database: Database) -> tuple[int, ...]:
    """What an attack must not change: accounts, identities and sessions."""
    counts = [await database.rows(select(func.count()).select_from(table)) for table in (User, OAuthIdentity, UserSession)]
    return tuple(rows[0][0] for rows in counts)


async def refused(visitor: Visitor, database: Database, path: str, reason: str, **headers: str) -> None:
    """Nobody is signed in at this address, nothing is changed, and the person is told why."""
    before, already = await state_of(database), await visitor.username()
    assert told(await visitor.come_back(path, **headers)).startswith(reason)
    assert (await state_of(database), await visitor.username()) == (before, already)


async def test_a_callback_counts_once_even_for_two_at_once(
    realm: Realm, visitor: Visitor, open_visitor: OpenVisitor, database: Database
) -> None:
    address = await visitor.start()
    cookies, back = dict(visitor.http.cookies), await visitor.consent(address)
    before = await state_of(database)
    answers = await asyncio.gather(*(visitor.come_back(back) for _ in range(3)))
    assert sorted(answer.status_code for answer in answers) == [303, 403, 403]
    assert (await state_of(database))[2] == before[2] + 1
    thief = open_visitor()
    thief.http.cookies.update(cookies)
    await refused(thief, database, back, NO_FLOW)
    assert realm.codes == {}
    # A fresh code does not help: the sign-in is over.
    await refused(thief, database, await thief.consent(address), NO_FLOW)


async def test_a_callback_in_another_browser_signs_nobody_in(
    realm: Realm, visitor: Visitor, open_visitor: OpenVisitor, database: Database
) -> None:
    """As when somebody is sent the callback of a stranger's sign-in, to work in the stranger's account."""
    back = await visitor.consent(await visitor.start())
    victim = open_visitor()
    await refused(victim, database, back, NO_FLOW)
    await victim.start()
    await refused(victim, database, back, NO_FLOW)
    assert (await visitor.come_back(back)).status_code == 303, "the attempts elsewhere have not used it up"


async def test_a_code_of_another_sign_in_is_worth_nothing(
    realm: Realm, visitor: Visitor, open_visitor: OpenVisitor, database: Database
) -> None:
    """A stolen code comes with the thief's own state; the verifier of PKCE is then another one."""
    stolen = parse_qs(urlsplit(await visitor.consent(await visitor.start())).query)["code"][0]
    thief = open_visitor()
    state = parse_qs(urlsplit(await thief.start()).query)["state"][0]
    await refused(thief, database, f"/auth/one/callback?{urlencode({'code': stolen, 'state': state})}", NOT_TRUSTED)


async def test_a_code_of_another_provider_is_not_taken(
    realm: Realm, add_provider: AddProvider, visitor: Visitor, database: Database
) -> None:
    """A provider that sends its visitors on to another one wants the code of that one (a mix-up)."""
    add_provider("two", **ADA)
    back = await visitor.consent(await visitor.start())
    await refused(visitor, database, back.replace("/auth/one/", "/auth/two/"), NO_FLOW)
    realm.response = {"iss": "https://somebody.example.org"}
    await refused(visitor, database, await visitor.consent(await visitor.start()), NOT_TRUSTED)
    (code,) = realm.codes.keys() - {parse_qs(urlsplit(back).query)["code"][0]}
    assert realm.codes[code]["state"], "the code was not sent on to anybody"


async def test_a_provider_that_names_itself_must_always_do_so(
    ada: Client, add_provider: AddProvider, visitor: Visitor, database: Database
) -> None:
    realm = add_provider("one", **ADA)
    realm.metadata = {"authorization_response_iss_parameter_supported": True}
    back = await visitor.consent(await visitor.start())
    await refused(visitor, database, back.partition("&iss=")[0], NOT_TRUSTED)


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    parts = (json.dumps({"alg": "none", **header}), json.dumps(claims))
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."


FORGERIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "another nonce": lambda claims: signed({**claims, "nonce": "of another sign-in"}, key()),
    "no nonce": lambda claims: signed({name: value for name, value in claims.items() if name != "nonce"}, key()),
    "another issuer": lambda claims: signed({**claims, "iss": f"{claims['iss']}/"}, key()),
    "no issuer": lambda claims: signed({name: value for name, value in claims.items() if name != "iss"}, key()),
    "another client": lambda claims: signed({**claims, "aud": "another"}, key()),
    "of several clients": lambda claims: signed({**claims, "aud": [CLIENT_ID, "another"]}, key()),
    "given to another client": lambda claims: signed({**claims, "aud": [CLIENT_ID, "another"], "azp": "another"}, key()),
    "expired": lambda claims: signed({**claims, "exp": claims["iat"] - 120}, key()),
    "never expires": lambda claims: signed({**claims, "exp": float("nan")}, key()),
    "from the future": lambda claims: signed({**claims, "iat": claims["iat"] + 600, "exp": claims["iat"] + 900}, key()),
    "another access token": lambda claims: signed({**claims, "at_hash": "A" * 22}, key()),
    "no subject": lambda claims: signed({name: value for name, value in claims.items() if name != "sub"}, key()),
    "an empty subject": lambda claims: signed({**claims, "sub": ""}, key()),
    "a subject that is no text": lambda claims: signed({**claims, "sub": 7}, key()),
    "a subject with NUL": lambda claims: signed({**claims, "sub": "7\x00"}, key()),
    "no signature": unsigned,
    "no signature, and the key's name": lambda claims: unsigned(claims, kid="first"),
    "the client's secret as key": lambda claims: signed(claims, OctKey.import_key(CLIENT_SECRET, {"kid": "first"}), alg="HS256"),
    "the public key as secret": lambda claims: signed(
        claims, OctKey.import_key(base64.b64encode(key().as_pem(private=False)).decode(), {"kid": "first"}), alg="HS256"
    ),
    "another key": lambda claims: signed(claims, key("second")),
    "another key by the same name": lambda claims: signed(claims, key("third"), kid="first"),
    "a key that it brings along": lambda claims: signed(claims, key("second"), kid="first", jwk=key("second").as_dict(private=False)),
    "changed": lambda claims: ".".join(
        [signed(claims, key()).split(".")[0], unsigned({**claims, "sub": "8"}).split(".")[1], signed(claims, key()).split(".")[2]]
    ),
    "critical header": lambda claims: signed(claims, key()).replace(
        signed(claims, key()).split(".")[0], unsigned({}, alg="RS256", kid="first", crit=["exp"]).split(".")[0]
    ),
    "no token": lambda claims: "",
    "no JSON": lambda claims: "a.b.c",
}


async def test_an_id_token_that_is_not_for_this_sign_in_is_refused(
    realm: Realm, visitor: Visitor, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_attempts, "FLOWS_PER_NETWORK", sign_in_attempts.Limit(1_000, 300))
    before = await state_of(database)
    for name, forge in FORGERIES.items():
        realm.sign = forge
        with capture_logs() as logs:
            answer = await visitor.sign_in()
        assert (answer.status_code, told(answer).startswith(NOT_TRUSTED)) == (502, True), name
        assert [entry["provider"] for entry in logs if entry["event"] == "sign_in_provider_failed"] == ["one"], name
    assert (await state_of(database), await visitor.username()) == (before, None)
    realm.sign = None
    assert (await visitor.sign_in()).status_code == 303


async def test_a_clock_may_differ_a_little_and_other_algorithms_are_taken(
    realm: Realm, visitor: Visitor, open_visitor: OpenVisitor, database: Database
) -> None:
    realm.sign = lambda claims: signed(
        {**claims, "iat": claims["iat"] + 30, "exp": claims["iat"] - 30, "aud": [CLIENT_ID]}, key(), alg="PS256"
    )
    assert (await visitor.sign_in()).status_code == 303
    curve = ECKey.generate_key("P-256", {"kid": "curve"})
    realm.key = curve  # pyright: ignore[reportAttributeAccessIssue] - a key of another kind
    realm.sign = lambda claims: signed(claims, curve, alg="ES256")
    other = open_visitor()
    await other.sign_in()
    assert await other.username() == "ada"


@pytest.mark.exhaustive
async def test_new_keys_are_fetched_once_and_unknown_ones_not_at_every_try(
    realm: Realm, open_visitor: OpenVisitor, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openid, "KEY_INTERVAL", 3600.0)
    assert realm.key_requests == 1, "linking needed the keys"
    assert (await open_visitor().sign_in()).status_code == 303
    assert realm.key_requests == 1
    realm.key = key("second")
    assert (await open_visitor().sign_in()).status_code == 303
    assert realm.key_requests == 2
    realm.sign = lambda claims: signed(claims, key("third"))
    for _ in range(3):
        visitor = open_visitor()
        await refused(visitor, database, await visitor.consent(await visitor.start()), NOT_TRUSTED)
    assert realm.key_requests == 2
    realm.sign = lambda claims: signed(claims, key())
    visitor = open_visitor()
    await refused(visitor, database, await visitor.consent(await visitor.start()), NOT_TRUSTED)


PLACES = (
    *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "graphql", ""),
    *("/a\r\nSet-Cookie: b=c", "/\t/evil.example", "/" + "a" * 600, "/%2F#x"),
)


async def test_a_sign_in_ends_at_a_path_of_ours(realm: Realm, visitor: Visitor) -> None:
    for place in PLACES:
        answer = await visitor.sign_in(next=place)
        assert (answer.status_code, answer.headers["location"]) == (303, "/graphql"), place
    assert "b" not in visitor.http.cookies


async def test_the_redirect_uri_is_never_what_a_request_says(
    realm: Realm, visitor: Visitor, settings: StateSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for host, scheme, reason in (
        ("evil.example", "http", "A browser is signed in by a cookie, which needs https"),
        ("evil.example", "https", "Signing in by a provider needs TRELLIS_PUBLIC_URL"),
    ):
        answer = await visitor.visit("/auth/one/start", host=host, **{"x-forwarded-proto": scheme})
        assert told(answer).startswith(reason)
    monkeypatch.setattr(settings, "public_url", "https://trellis.example.org")
    answer = await visitor.visit("/auth/one/start", host="evil.example", **{"x-forwarded-proto": "https"})
    assert told(answer) == "Signing in by a provider works at https://trellis.example.org alone: open Trellis there."
    answer = await visitor.visit("/auth/one/start", host="trellis.example.org", **{"x-forwarded-proto": "https"})
    asked = parse_qs(urlsplit(answer.headers["location"]).query)
    assert asked["redirect_uri"] == ["https://trellis.example.org/auth/one/callback"]
    assert answer.headers["set-cookie"].startswith("__Host-trellis-oauth=")
    assert answer.headers["set-cookie"].endswith("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure")


async def test_an_address_takes_over_no_account(
    ada: Client, add_provider: AddProvider, visitor: Visitor, set_registration: Callable[[str], None], database: Database
) -> None:
    set_registration("open")
    realm = add_provider("one", **{**ADA, "email": "ADA@example.org", "email_verified": False})
    for verified in (False, None, "false", 1.5, [True]):
        realm.person["email_verified"] = verified
        await refused(
            visitor, database, await visitor.consent(await visitor.start()), "one does not say that an e-mail address of yours is verified"
        )
    for verified in (True, "true"):
        realm.person["email_verified"] = verified
        await refused(
            visitor, database, await visitor.consent(await visitor.start()), "ADA@example.org has an account here that this identity"
        )
    for address in ("no address", "x@teams.invalid", "a@b\x00", ["a@b.example"], None):
        realm.person |= {"email": address, "email_verified": True}
        await refused(
            visitor, database, await visitor.consent(await visitor.start()), "one does not say that an e-mail address of yours is verified"
        )
    assert await identities(ada) == []


async def test_who_has_the_address_later_does_not_get_the_account(realm: Realm, visitor: Visitor, database: Database) -> None:
    realm.person["sub"] = "8"
    await refused(visitor, database, await visitor.consent(await visitor.start()), "No account here is opened by this identity")


async def test_only_who_is_signed_in_links_and_only_from_our_own_page(
    ada: Client, bob: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: OpenVisitor, database: Database
) -> None:
    add_provider("one", **ADA)
    nobody = open_visitor()
    before = await state_of(database)
    assert told(await nobody.visit("/auth/one/start?link=1")).startswith("Only who is signed in can link")
    exchanged = await nobody.http.post("/auth/cookie", headers={"graphql-preflight": "1", "origin": ada.url, **bearer(ada)})
    assert exchanged.status_code == 204
    assert told(await nobody.visit("/auth/one/start?link=1")).startswith("Only who is signed in can link"), "an API key may not"
    await sign_in("ada")
    visitor = open_visitor()
    await visitor.login("ada")
    for site in ("cross-site", "same-site", "none", ""):
        answer = await visitor.visit("/auth/one/start?link=1", **{"sec-fetch-site": site})
        assert told(answer).startswith("Linking an identity begins on a page of this Trellis.")
    back = await visitor.consent(await visitor.start(link="1"))
    # Bob signs in in the same browser meanwhile.
    await sign_in("bob")
    await visitor.login("bob")
    assert told(await visitor.come_back(back)).startswith("Somebody else is signed in now than when this began")
    back = await visitor.consent(await visitor.start(link="1"))
    await visitor.one("mutation { logout { __typename } }")
    assert told(await visitor.come_back(back)).startswith("Only who is signed in can link")
    assert (await state_of(database))[:2] == before[:2]


async def test_an_old_session_links_and_unlinks_nothing(
    realm: Realm, add_provider: AddProvider, visitor: Visitor, database: Database
) -> None:
    add_provider("two", **{**ADA, "sub": "9"})
    await visitor.sign_in()
    back = await visitor.consent(await visitor.start("two", link="1"))
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - timedelta(minutes=11)))
    before = await state_of(database)
    assert told(await visitor.come_back(back)).startswith("You signed in more than 10 minutes ago.")
    assert told(await visitor.visit("/auth/two/start?link=1")).startswith("You signed in more than 10 minutes ago.")
    unlink = 'mutation { unlinkOAuthIdentity(input: {provider: "one"}) { ... on WrongState { state } } }'
    assert await visitor.one(unlink) == {"state": "NOT_RECENTLY_CHECKED"}
    assert await state_of(database) == before


async def test_a_sign_in_that_takes_too_long_is_over(realm: Realm, visitor: Visitor, database: Database, settings: StateSettings) -> None:
    back = await visitor.consent(await visitor.start())
    async with database.work(SYSTEM) as work:
        await work.run(update(OAuthFlow).values(expires_at=func.now()))
    await refused(visitor, database, back, NO_FLOW)
    await visitor.start()
    assert await forget_sign_ins(MaintenanceContext(database, None, settings)) in {0, 1}, "a worker may have done it first"  # pyright: ignore[reportArgumentType] - the task touches no object
    assert len(await database.rows(select(OAuthFlow.id))) == 1, "the one under way is kept"


async def test_a_provider_may_decline(realm: Realm, visitor: Visitor, database: Database) -> None:
    declined = "one did not let you sign in, or you declined. "
    for query, reason in (
        ("error=access_denied", f"{declined}It says: access_denied."),
        ("error=Call+0800-FRAUD+now", f"{declined}Begin again"),
        ("", f"{declined}Begin again"),
        ("code=" + "x" * 5_000, f"{declined}Begin again"),
        ("code=unknown", NOT_TRUSTED),
    ):
        state = parse_qs(urlsplit(await visitor.start()).query)["state"][0]
        await refused(visitor, database, f"/auth/one/callback?state={state}&{query}", reason)


async def test_what_is_no_sign_in_is_told_apart_from_one(realm: Realm, visitor: Visitor, database: Database) -> None:
    for path in ("/auth/one/callback", "/auth/one/callback?state=%00&code=a", "/auth/one/callback?state=" + "x" * 20_000):
        await refused(visitor, database, path, NO_FLOW)
        visitor.http.cookies.set(f"trellis-{visitor.url.rpartition(':')[2]}-oauth", "forged", domain="127.0.0.1")
    for path in ("/auth/three/start", "/auth/three/callback"):
        answer = await visitor.visit(path)
        assert (answer.status_code, told(answer)[:35]) == (404, "There is no such provider here. The")
    assert (await visitor.http.post("/auth/one/start")).status_code == 405


async def test_a_provider_that_is_away_or_says_nonsense_is_told(
    ada: Client, add_provider: AddProvider, visitor: Visitor, database: Database
) -> None:
    for metadata in (
        {"issuer": "https://somebody.example.org"},
        {"authorization_endpoint": "http://login.example.org/authorize"},
        {"authorization_endpoint": "https://user@login.example.org/authorize"},
        {"authorization_endpoint": None},
        {"padding": "x" * 600_000},
    ):
        add_provider("one", **ADA).metadata = metadata
        answer = await visitor.visit("/auth/one/start")
        assert (answer.status_code, told(answer).startswith(NOT_TRUSTED)) == (502, True)
    assert await visitor.username() is None


async def test_a_network_begins_few_sign_ins_that_do_not_come_back(realm: Realm, visitor: Visitor, database: Database) -> None:
    elsewhere = {"x-forwarded-for": "198.51.100.7"}
    answers = [await visitor.visit("/auth/one/start", **elsewhere) for _ in range(FLOWS_PER_NETWORK.attempts + 3)]
    assert [answer.status_code for answer in answers] == [303] * FLOWS_PER_NETWORK.attempts + [429] * 3
    assert (await visitor.sign_in()).status_code == 303, "others go on"
    assert len(await database.rows(select(OAuthFlow.id))) == FLOWS_PER_NETWORK.attempts


async def test_a_challenge_ends_with_the_identity_that_got_it(
    realm: Realm, open_visitor: OpenVisitor, anonymous: Client, database: Database
) -> None:
    visitor, thief = open_visitor(), open_visitor()
    await visitor.sign_in()
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(totp_secret=b"\x00", totp_step=0))
    challenge = (await thief.sign_in()).headers["location"].partition("#challenge=")[2]
    await visitor.one('mutation { unlinkOAuthIdentity(input: {provider: "one"}) { __typename } }')
    document = "mutation($input: ConfirmLoginInput!) { confirmLogin(input: $input) { ... on InvalidInput { issues { path } } } }"
    assert await anonymous.one(document, input={"challenge": challenge, "code": "000000"}) == {"issues": [{"path": ["challenge"]}]}
    assert (await database.rows(select(LoginEvent.succeeded).order_by(LoginEvent.id.desc()).limit(1)))[0].succeeded is False
