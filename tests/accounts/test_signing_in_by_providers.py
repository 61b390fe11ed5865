"""A provider of identities says who signs in: its identity opens the account that it is linked to, and may make one where the operator allows it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import func, insert, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import account_tokens
from db.settings import state_settings
from db.tables import EmailMessage, Invitation, OAuthFlow, OAuthIdentity, User
from server.settings import ServerSettings
from tests.accounts.authenticator import Clock, add_factor, confirm, history, mails
from tests.accounts.identity_provider import IDENTITIES, Realm, Visitor, identities, told
from tests.client import PASSWORD, Client

SignIn = Callable[[str], Awaitable[Client]]
AddProvider = Callable[..., Realm]
SetRegistration = Callable[[str], None]
ADA: dict[str, Any] = {
    "sub": "7",
    "email": "ada@elsewhere.example",
    "email_verified": True,
    "name": "Ada Lovelace",
    "preferred_username": "ada.l",
}
UNLINK = (
    "mutation($input: UnlinkOAuthIdentityInput!) { unlinkOAuthIdentity(input: $input) { __typename"
    f" ... on UnlinkOAuthIdentityPayload {{ viewer {{ {IDENTITIES} }} }} ... on WrongState {{ state }} ... on NotFound {{ id }} }} }}"
)
LINKED = {"provider": "one", "subject": "7", "email": "ada@elsewhere.example"}


async def link(visitor: Visitor, sign_in: SignIn, provider: str = "one", name: str = "ada") -> None:
    """Sign a browser in with a password, and link the person's identity to the account."""
    await sign_in(name)
    await visitor.login(name)
    answer = await visitor.sign_in(provider, link="1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/graphql"), answer.text


async def accounts(database: Database) -> int:
    return (await database.rows(select(func.count()).select_from(User)))[0][0]


async def test_a_linked_identity_signs_its_owner_in(
    ada: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: Callable[[], Visitor], database: Database
) -> None:
    realm = add_provider("one", **ADA)
    await link(open_visitor(), sign_in)
    assert await identities(ada) == [LINKED]
    before, visitor = await history(database), open_visitor()
    answer = await visitor.sign_in(next="/account?tab=security")
    assert (answer.status_code, answer.headers["location"], answer.headers["cache-control"]) == (303, "/account?tab=security", "no-store")
    assert await visitor.username() == "ada"
    assert (await history(database))[len(before) :] == [("OAUTH", None)]
    port = ada.url.rsplit(":", 1)[1]
    session, flow = answer.headers.get_list("set-cookie")
    assert session.startswith(f"trellis-{port}=trs_")
    assert session.endswith("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax")
    assert flow == f"trellis-{port}-oauth=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    (mail,) = await mails(database, "identity_linked")
    assert "an identity at a provider" in mail
    assert len(await mails(database, "new_device")) == 0, "the same network, browser and device as before"
    events = (await ada.one("{ auditEvents(first: 2) { edges { node { action ipAddress after actor { username } } } } }"))["edges"]
    by_ada = {"ipAddress": "127.0.0.1", "actor": {"username": "ada"}}
    identity = {**LINKED, "issuer": realm.issuer}
    assert [event["node"] for event in events] == [
        {"action": "login", "after": {"method": "OAUTH"}, **by_ada},
        {"action": "link_oauth_identity", "after": identity, **by_ada},
    ]
    assert await database.rows(select(OAuthFlow.id)) == []


async def test_everybody_sees_the_providers(anonymous: Client, add_provider: AddProvider) -> None:
    # Each time another client, since what is known of one is kept: settings do not change while a process runs.
    anonymous.http.headers["user-agent"] = str(uuid4())
    assert await anonymous.one("{ signInProviders }") == []
    add_provider("one", **ADA)
    add_provider("two", **ADA)
    anonymous.http.headers["user-agent"] = str(uuid4())
    assert await anonymous.one("{ signInProviders }") == ["one", "two"]


async def test_an_identity_that_is_linked_to_nothing_opens_nothing(
    ada: Client, add_provider: AddProvider, visitor: Visitor, database: Database
) -> None:
    add_provider("one", **ADA)
    before = await accounts(database)
    answer = await visitor.sign_in()
    assert (answer.status_code, told(answer)[:52]) == (403, "No account here is opened by this identity of one. I")
    assert "style-src 'sha256-" in answer.headers["content-security-policy"]
    assert (await visitor.username(), await accounts(database)) == (None, before)


async def test_where_everybody_may_register_an_identity_with_a_verified_address_makes_an_account(
    ada: Client, add_provider: AddProvider, open_visitor: Callable[[], Visitor], set_registration: SetRegistration, database: Database
) -> None:
    set_registration("open")
    add_provider("one", **ADA)
    visitor = open_visitor()
    assert (await visitor.sign_in()).headers["location"] == "/graphql"
    viewer = await visitor.one(f"{{ viewer {{ username fullName email role isActive {IDENTITIES} }} }}")
    assert viewer == {
        "username": "ada.l",
        "fullName": "Ada Lovelace",
        "email": "ada@elsewhere.example",
        "role": "MEMBER",
        "isActive": True,
        "oauthIdentities": [LINKED],
    }
    (row,) = await database.rows(select(User.password_hash, User.email_verified_at).where(User.username == "ada.l"))
    assert (row.password_hash, row.email_verified_at is not None) == (None, True)
    again, before = open_visitor(), await accounts(database)
    await again.sign_in()
    assert (await again.username(), await accounts(database)) == ("ada.l", before)
    # Somebody else who is called the same elsewhere.
    add_provider("two", **{**ADA, "sub": "8", "email": "other@elsewhere.example"})
    other = open_visitor()
    await other.sign_in("two")
    assert (await other.username() or "").startswith("ada.l-")


async def test_who_is_invited_makes_an_account_with_the_invitations_address_and_role(
    ada: Client, add_provider: AddProvider, visitor: Visitor, set_registration: SetRegistration, database: Database
) -> None:
    set_registration("invited")
    realm = add_provider("one", **ADA)
    admin_id = select(User.id).where(User.username == "admin").scalar_subquery()
    values = {"role": "viewer", "owner_id": admin_id, "invited_by_id": admin_id}
    async with database.work(SYSTEM) as work:
        statement = insert(Invitation).values(
            email="ADA@elsewhere.example", expires_at=func.now() + func.make_interval(0, 0, 0, 1), **values
        )
        invitation = await work.scalar(statement.returning(Invitation.id))
    token = account_tokens.token_text(state_settings(), invitation, account_tokens.INVITATION)
    assert told(await visitor.sign_in()).startswith("No account here is opened by this identity"), "without the token"
    assert told(await visitor.visit("/auth/one/start?invitation=0.0")).startswith("This token is not valid")
    realm.person["email"] = "eve@elsewhere.example"
    assert "for another address than eve@elsewhere.example" in told(await visitor.sign_in(invitation=token))
    realm.person["email"] = "ada@elsewhere.example"
    assert (await visitor.sign_in(invitation=token)).status_code == 303
    assert await visitor.one("{ viewer { email role } }") == {"email": "ada@elsewhere.example", "role": "VIEWER"}
    assert told(await visitor.visit(f"/auth/one/start?invitation={token}")).startswith("This token is not valid"), "it was used"


async def test_the_second_factor_is_asked_for(
    ada: Client,
    sign_in: SignIn,
    add_provider: AddProvider,
    open_visitor: Callable[[], Visitor],
    clock: Clock,
    anonymous: Client,
    database: Database,
) -> None:
    add_provider("one", **ADA)
    visitor = open_visitor()
    await link(visitor, sign_in)
    app = await add_factor(await sign_in("ada"), clock)
    other = open_visitor()
    answer = await other.sign_in()
    place, _, challenge = answer.headers["location"].partition("#challenge=")
    assert (place, challenge[:4], await other.username()) == ("/graphql", "trc_", None)
    assert (await history(database))[-1] == ("OAUTH", "The provider knew the user, and a code was asked for.")
    assert (await confirm(anonymous, challenge, app.code()))["viewer"] == {"username": "ada"}


async def test_a_disabled_user_is_refused(
    ada: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: Callable[[], Visitor], database: Database
) -> None:
    add_provider("one", **ADA)
    await link(open_visitor(), sign_in)
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(disabled_at=func.now()))
    visitor = open_visitor()
    assert told(await visitor.sign_in()) == "This account cannot be used. Ask whoever runs this Trellis."
    assert (await visitor.username(), (await history(database))[-1]) == (None, ("OAUTH", "The account is disabled."))


async def test_the_identity_of_a_deleted_account_opens_nothing_until_that_is_restored(
    ada: Client,
    sign_in: SignIn,
    add_provider: AddProvider,
    open_visitor: Callable[[], Visitor],
    set_registration: SetRegistration,
    database: Database,
) -> None:
    set_registration("open")
    add_provider("one", **ADA)
    visitor = open_visitor()
    await link(visitor, sign_in)
    assert await visitor.one("mutation { deleteAccount(input: {}) { __typename } }") == {"__typename": "DeleteAccountPayload"}
    before = await accounts(database)
    answer = await visitor.sign_in()
    assert told(answer).startswith(
        "This account was deleted. On the page for signing in, choose to restore a deleted account, by one or another"
    )
    assert (await visitor.username(), await accounts(database)) == (None, before)
    restore = "mutation($input: RestoreAccountInput!) { restoreAccount(input: $input) { __typename } }"
    assert await visitor.one(restore, input={"login": "ada", "password": PASSWORD}) == {"__typename": "LoginPayload"}
    assert (await visitor.sign_in()).status_code == 303
    assert await visitor.username() == "ada"


async def test_github_is_asked_for_the_person_and_a_verified_address(
    ada: Client, add_provider: AddProvider, open_visitor: Callable[[], Visitor], set_registration: SetRegistration
) -> None:
    set_registration("open")
    emails = [
        {"email": "old@example.com", "primary": False, "verified": True},
        {"email": "ada@example.com", "primary": True, "verified": False},
    ]
    realm = add_provider("github", "github", id=583231, login="ada-l", name=None, emails=emails)
    realm.response = {"iss": f"{realm.issuer}/login/oauth"}
    assert "does not say that an e-mail address of yours is verified" in told(await open_visitor().sign_in("github"))
    emails[1]["verified"] = True
    visitor = open_visitor()
    await visitor.sign_in("github")
    assert await visitor.one("{ viewer { username email } }") == {"username": "ada-l", "email": "ada@example.com"}
    assert await identities(visitor) == [{"provider": "github", "subject": "583231", "email": "ada@example.com"}]
    realm.person |= {"login": "renamed", "emails": []}
    again = open_visitor()
    await again.sign_in("github")
    assert await again.username() == "ada-l", "the id is what counts"


async def test_claims_may_come_from_the_user_info_alone(
    ada: Client, add_provider: AddProvider, visitor: Visitor, set_registration: SetRegistration
) -> None:
    set_registration("open")
    realm = add_provider("one", **ADA)
    realm.in_user_info, realm.auth_methods = ("email", "email_verified", "name"), ("client_secret_post",)
    realm.user_info_subject = "somebody else"
    assert "gave an answer that cannot be trusted" in told(await visitor.sign_in())
    realm.user_info_subject = None
    await visitor.sign_in()
    assert await visitor.one("{ viewer { email fullName } }") == {"email": "ada@elsewhere.example", "fullName": "Ada Lovelace"}


async def test_an_identity_is_unlinked_and_the_last_way_in_is_not(
    ada: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: Callable[[], Visitor], database: Database
) -> None:
    add_provider("one", **ADA)
    add_provider("two", **{**ADA, "sub": "9"})
    visitor = open_visitor()
    await link(visitor, sign_in)
    assert (await visitor.sign_in("two", link="1")).status_code == 303
    assert await visitor.one(UNLINK, input={"provider": "three"}) == {"__typename": "NotFound", "id": "three"}
    assert await visitor.one(UNLINK, input={"provider": "two"}) == {
        "__typename": "UnlinkOAuthIdentityPayload",
        "viewer": {"oauthIdentities": [LINKED]},
    }
    assert told(await open_visitor().sign_in("two")).startswith("No account here is opened by this identity of two")
    assert (await visitor.sign_in("two", link="1")).status_code == 303
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(password_hash=None))
    answers = await asyncio.gather(*(visitor.one(UNLINK, input={"provider": provider}) for provider in ("one", "two")))
    assert sorted(answer["__typename"] for answer in answers) == ["UnlinkOAuthIdentityPayload", "WrongState"]
    (left,) = await identities(ada)
    assert await visitor.one(UNLINK, input={"provider": left["provider"]}) == {"__typename": "WrongState", "state": "LAST_WAY_IN"}
    assert len(await identities(ada)) == 1
    assert len(await mails(database, "identity_unlinked")) == 2
    assert (await ada.post(UNLINK, input={"provider": "one"}))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "an API key may not"


async def test_linking_twice_changes_nothing_and_one_provider_has_one_identity(
    ada: Client, bob: Client, sign_in: SignIn, add_provider: AddProvider, open_visitor: Callable[[], Visitor], database: Database
) -> None:
    realm = add_provider("one", **ADA)
    visitor, bobs = open_visitor(), open_visitor()
    await link(visitor, sign_in)
    assert (await visitor.sign_in(link="1")).status_code == 303
    await sign_in("bob")
    await bobs.login("bob")
    assert told(await bobs.sign_in(link="1")).startswith("This identity of one opens another account.")
    realm.person["sub"] = "8"
    assert told(await visitor.sign_in(link="1")) == "Another identity of one opens your account. Unlink that one first."
    assert (await identities(ada), await identities(bob)) == ([LINKED], [])
    rows = await database.rows(select(EmailMessage.id).where(EmailMessage.template == "identity_linked"))
    assert (len(rows), len(await database.rows(select(OAuthIdentity.id)))) == (1, 1)


async def test_who_changes_a_password_is_told_which_identities_still_open_the_account(
    ada: Client, sign_in: SignIn, add_provider: AddProvider, visitor: Visitor, database: Database
) -> None:
    add_provider("one", **{**ADA, "email": "buy-now@spam.example"})
    await link(visitor, sign_in)
    change = "mutation($input: ChangePasswordInput!) { changePassword(input: $input) { __typename } }"
    new = {"currentPassword": PASSWORD, "newPassword": "another password of 7 words"}
    assert await visitor.one(change, input=new) == {"__typename": "ChangePasswordPayload"}
    (mail,) = await mails(database, "password_changed")
    ((linked_at,),) = await database.rows(select(OAuthIdentity.linked_at))
    assert (
        f"Identities at these providers still open the account. Unlink those that are not yours:\n  one, linked on {linked_at:%Y-%m-%d}"
        in mail
    )
    assert "spam" not in mail


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('{"google": {"preset": "google", "client_id": "a"}, "own": {"issuer": "https://login.example.org/x", "client_id": "a"}}', None),
        (
            '{"x": {"client_id": "a"}}',
            "A provider has a preset, `google` or `github`, or an issuer, such as `https://login.example.org`. (at x)",
        ),
        (
            '{"x": {"issuer": "http://login.example.org", "client_id": "a"}}',
            "'http://login.example.org' is no issuer: an https address without",
        ),
        (
            '{"x": {"issuer": "https://a.example", "client_id": "a", "scopes": ["email"]}}',
            "The scopes need `openid`, without which the provider",
        ),
        ('{"a/b": {"preset": "google", "client_id": "a"}}', "String should match pattern"),
        ('{"x": {"preset": "github", "client_id": "a", "secret": "b"}}', "Extra inputs are not permitted (at x.secret)"),
    ],
)
def test_settings_that_cannot_work_are_named(value: str, problem: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRELLIS_SIGN_IN_PROVIDERS", value)
    problems = [text.removeprefix("TRELLIS_SIGN_IN_PROVIDERS: ") for text in ServerSettings.problems()]
    assert [text[: len(problem or "")] for text in problems] == ([] if problem is None else [problem])
