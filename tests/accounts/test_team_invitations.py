"""An ADMIN of a team invites somebody by mail: one address, once, for seven days, and only while they are ADMIN."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy import func, select, text, update

from db.core.viewer import SYSTEM, ApiScope, UserRole
from db.core.work import Database
from db.limits.sign_in_attempts import INVITATIONS_PER_USER, MAILS_PER_ADDRESS
from db.services import accounts
from db.settings import state_settings
from db.tables import Invitation, Membership, User, UserSession
from tests.accounts.blocking import wait_until_blocked
from tests.accounts.mailbox import Post, body, mails, token_of
from tests.accounts.test_registering import REGISTER, registered, usernames, verify
from tests.accounts.test_team_members import MINE, Team, id_of
from tests.accounts.test_teams import create_team, join
from tests.audit.test_events import events
from tests.client import PASSWORD, Client, GraphQLErrors
from tests.exhaustive import few

SignIn = Callable[[str], Awaitable[Client]]
SetRegistration = Callable[[str], None]
_INVITATION = "invitation { id email role team { username } invitedBy { username } }"
INVITE = (
    "mutation($input: InviteMemberInput!) { inviteMember(input: $input) { __typename ... on Problem { code message } ... on WrongState { state }"
    f" ... on InviteMemberPayload {{ {_INVITATION} }} }} }}"
)
ACCEPT = (
    "mutation($token: String!) { acceptInvitation(input: {token: $token}) { __typename ... on WrongState { state } ... on InvalidInput { issues { path } }"
    " ... on AcceptInvitationPayload { membership { role team { username } user { username } } } } }"
)
DECLINE = (
    "mutation($token: String!) { declineInvitation(input: {token: $token}) { __typename ... on InvalidInput { issues { path } }"
    " ... on DeclineInvitationPayload { declinedId } } }"
)
REVOKE = "mutation($id: ID!) { revokeInvitation(input: {id: $id}) { __typename ... on RevokeInvitationPayload { revokedId } } }"
OF_TEAM = "query($id: ID!) { user(id: $id) { invitations { edges { node { id email } } } } }"
EVE = "eve@example.org"
REFUSED = {"__typename": "InvalidInput", "issues": [{"path": ["token"]}]}


async def invite(sender: Client, team: Team, email: str = EVE, role: str = "MEMBER") -> dict[str, Any]:
    return await sender.one(INVITE, input={"email": email, "role": role, "teamId": team.id})


async def accept(sender: Client, token: str) -> dict[str, Any]:
    return await sender.one(ACCEPT, token=token)


async def invited_addresses(client: Client, team: Team) -> list[str]:
    return [edge["node"]["email"] for edge in (await client.one(OF_TEAM, id=team.id))["invitations"]["edges"]]


async def change(database: Database, statement: Any) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(statement)


@pytest.fixture
async def team(ada: Client, bob: Client, sign_in: SignIn, database: Database) -> Team:
    """A team of Ada's, with Bob as a MEMBER."""
    session = await sign_in("ada")
    team = (await create_team(session))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    return Team(database, session, await sign_in("bob"), team, await id_of(ada), await id_of(bob))


@pytest.fixture
async def eve(make_client: Callable[..., Awaitable[Client]], sign_in: SignIn, team: Team, database: Database) -> Client:
    """Eve, whose address is verified, and who is in no team."""
    await make_client("eve")
    await change(database, update(User).where(User.username == "eve").values(email_verified_at=func.now()))
    return await sign_in("eve")


async def test_who_is_invited_accepts_and_is_in_the_team(team: Team, eve: Client, post: Post, database: Database) -> None:
    answer = await invite(team.ada, team, " Eve@example.org ", "VIEWER")
    invitation = answer["invitation"]
    assert answer == {
        "__typename": "InviteMemberPayload",
        "invitation": {
            "id": invitation["id"],
            "email": "Eve@example.org",
            "role": "VIEWER",
            "team": {"username": "bearings"},
            "invitedBy": {"username": "ada"},
        },
    }
    lifetime = await database.rows(select((Invitation.expires_at - Invitation.created_at).label("lifetime")))
    assert [row.lifetime.total_seconds() for row in lifetime] == [7 * 86_400]
    (mail,) = await post.send(public_url="https://trellis.example.org")
    assert (mail["To"], mail["Subject"]) == ("Eve@example.org", "Trellis: You are invited")
    assert "ada invites you to the team bearings. Your role there will be VIEWER.\n" in body(mail)
    assert f"https://trellis.example.org/accept-invitation#token={token_of(mail)}\n" in body(mail)
    assert await invited_addresses(team.ada, team) == ["Eve@example.org"]
    assert await eve.one(MINE) == {"teams": []}
    membership = {"role": "VIEWER", "team": {"username": "bearings"}, "user": {"username": "eve"}}
    assert await accept(eve, token_of(mail)) == {"__typename": "AcceptInvitationPayload", "membership": membership}
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER", "eve": "VIEWER"}
    assert await eve.one(MINE) == {"teams": [{"role": "VIEWER", "team": {"username": "bearings"}}]}
    assert await invited_addresses(team.ada, team) == []
    assert await accept(eve, token_of(mail)) == REFUSED
    eve_id = await id_of(eve)
    recorded = [
        (event["action"], event["owner"]["username"], event["subjectId"], event["before"], event["after"])
        for event in await events(eve)
        if event["action"].endswith(("_member", "_invitation"))
    ]
    assert recorded == [
        ("invite_member", "bearings", invitation["id"], None, {"role": "VIEWER"}),
        ("accept_invitation", "bearings", invitation["id"], None, {"userId": eve_id, "role": "VIEWER"}),
    ], "without the address, which is for ADMINs"


async def test_an_invitation_to_one_team_too_many_stays_open(
    team: Team, eve: Client, post: Post, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "memberships_per_user", 1)
    await create_team(eve, "alloys")
    await invite(team.ada, team)
    token = await post.token()
    answer = await accept(eve, token)
    assert answer["__typename"] == "QuotaExceeded"
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER"}
    monkeypatch.setattr(state_settings(), "memberships_per_user", 2)
    assert (await accept(eve, token))["__typename"] == "AcceptInvitationPayload"


async def test_an_account_that_is_deleted_meanwhile_joins_no_team(team: Team, eve: Client, post: Post, database: Database) -> None:
    await invite(team.ada, team)
    token = await post.token()
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "eve").values(deleted_at=func.now(), deleted_by_owner=True))
        accepting = asyncio.create_task(accept(eve, token))
        await wait_until_blocked(database, accepting)
    with pytest.raises(GraphQLErrors) as refused:
        await accepting
    assert refused.value.codes == ["FORBIDDEN"]
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER"}


async def test_an_invitation_is_for_its_verified_address_alone(
    team: Team, eve: Client, sign_in: SignIn, post: Post, database: Database
) -> None:
    await invite(team.ada, team)
    token = await post.token()
    assert await accept(await sign_in("admin"), token) == REFUSED
    assert await accept(eve, token.partition(".")[0] + "." + "A" * 43) == REFUSED
    await change(database, update(User).where(User.username == "eve").values(email_verified_at=None))
    assert await accept(eve, token) == {"__typename": "WrongState", "state": "ADDRESS_NOT_VERIFIED"}
    await change(database, update(User).where(User.username == "eve").values(email_verified_at=func.now(), email="eve@example.com"))
    assert await accept(eve, token) == REFUSED, "she has another address by now"
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER"}
    await change(database, update(User).where(User.username == "eve").values(email="EVE@example.org"))
    assert (await accept(eve, token))["__typename"] == "AcceptInvitationPayload"


_ADA, _TEAM = User.username == "ada", User.username == "bearings"
CHANGES = {
    "it was revoked": update(Invitation).values(revoked_at=func.now()),
    "it expired": update(Invitation).values(expires_at=func.now()),
    "its sender was lowered": update(Membership).where(Membership.user_id.in_(select(User.id).where(_ADA))).values(role=UserRole.MEMBER),
    "its sender is VIEWER in the whole of Trellis": update(User).where(_ADA).values(role=UserRole.VIEWER),
    "its sender was disabled": update(User).where(_ADA).values(disabled_at=func.now()),
    "its sender was deleted": update(User).where(_ADA).values(deleted_at=func.now()),
    "the team was disabled": update(User).where(_TEAM).values(disabled_at=func.now()),
    "the team was deleted": update(User).where(_TEAM).values(deleted_at=func.now()),
}


@pytest.mark.parametrize("changed", few(2, CHANGES.values()), ids=CHANGES.keys())
async def test_an_invitation_is_void_after(changed: Any, team: Team, eve: Client, post: Post, database: Database) -> None:
    await invite(team.ada, team)
    token = await post.token()
    await change(database, changed)
    assert await accept(eve, token) == REFUSED
    assert "eve" not in await team.roles()


async def test_the_invitations_of_who_is_admin_no_more_have_ended(team: Team, eve: Client, post: Post, database: Database) -> None:
    await team.set_role(team.ada, team.bob_id, "ADMIN")
    await invite(team.bob, team)
    await invite(team.ada, team, "kim@example.org")
    (mail, _) = await post.send()
    await team.set_role(team.ada, team.bob_id, "MEMBER")
    await team.set_role(team.ada, team.bob_id, "ADMIN")
    assert await accept(eve, token_of(mail)) == REFUSED, "although he is ADMIN again"
    assert await invited_addresses(team.ada, team) == ["kim@example.org"]
    await team.leave(team.ada)
    assert await invited_addresses(team.bob, team) == []


async def test_a_token_that_is_used_twice_at_once_counts_once(
    team: Team, eve: Client, sign_in: SignIn, post: Post, database: Database
) -> None:
    await invite(team.ada, team)
    token = await post.token()
    other = await sign_in("eve")
    waiting = text("SELECT count(*) AS number FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    async with database.work(SYSTEM) as work:
        await work.run(select(Invitation.id).with_for_update())
        both = [asyncio.create_task(accept(client, token)) for client in (eve, other)]
        async with asyncio.timeout(60):
            while (await database.rows(waiting))[0].number < 2:
                await asyncio.sleep(0.01)
    answers = await asyncio.gather(*both)
    assert sorted(answer["__typename"] for answer in answers) == ["AcceptInvitationPayload", "InvalidInput"]
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER", "eve": "MEMBER"}


async def test_known_and_unknown_addresses_and_members_get_one_answer(team: Team, eve: Client, post: Post) -> None:
    addresses = [EVE, "nobody@example.org", "bob@example.org"]
    answers = [await invite(team.ada, team, address) for address in addresses]
    for answer in answers:
        del answer["invitation"]["id"], answer["invitation"]["email"]
    assert answers[0] == answers[1] == answers[2]
    assert await invited_addresses(team.ada, team) == addresses[::-1]
    known, unknown, member = await post.send()
    assert "ada invites you to the team bearings." in body(known)
    assert "ask whoever runs this Trellis for one with this address first." in body(unknown)
    assert not {"ada", "bearings"} & set(body(unknown).replace(".", " ").split()), "to a stranger, a name could be an advertisement"
    assert "ada invited you to the team bearings, which you are in already." in body(member)
    assert "\n  " not in body(member), "it has no token"


async def test_an_unknown_person_registers_first(
    team: Team, anonymous: Client, post: Post, database: Database, set_registration: SetRegistration
) -> None:
    set_registration("open")
    await invite(team.ada, team)
    (mail,) = await post.send(registration="open")
    assert "register with this address first." in body(mail)
    new = {"email": EVE, "username": "eve", "password": PASSWORD}
    as_registration = await anonymous.one(REGISTER, input={**new, "invitationToken": token_of(mail)})
    assert as_registration["issues"] == [{"path": ["invitationToken"]}], "it lets nobody register"
    assert (await verify(anonymous, await registered(anonymous, post)))["username"] == "eve"
    assert "eve" in await usernames(database)
    eve = Client(anonymous.url, (await anonymous.login("eve", PASSWORD))["token"])
    assert (await accept(eve, token_of(mail)))["__typename"] == "AcceptInvitationPayload"
    await eve.close()


async def test_who_is_in_the_team_already_stays_as_they_are(team: Team, eve: Client, post: Post, database: Database) -> None:
    await invite(team.ada, team, role="ADMIN")
    token = await post.token()
    await join(database, team.id, "eve", UserRole.VIEWER)
    assert await accept(eve, token) == {"__typename": "WrongState", "state": "MEMBER"}
    assert (await team.roles())["eve"] == "VIEWER"


async def test_who_has_the_token_declines(team: Team, eve: Client, anonymous: Client, post: Post) -> None:
    invitation = (await invite(team.ada, team))["invitation"]["id"]
    token = await post.token()
    assert await anonymous.one(DECLINE, token=token) == {"__typename": "DeclineInvitationPayload", "declinedId": invitation}
    assert await anonymous.one(DECLINE, token=token) == REFUSED
    assert await accept(eve, token) == REFUSED
    assert await invited_addresses(team.ada, team) == []
    last = (await events(team.ada))[-1]
    assert (last["action"], last["actor"], last["subjectId"]) == ("decline_invitation", None, invitation)


async def test_only_admins_of_the_team_see_and_end_its_invitations(
    team: Team, eve: Client, ada: Client, sign_in: SignIn, post: Post, database: Database
) -> None:
    first = (await invite(team.ada, team))["invitation"]["id"]
    second = (await invite(team.ada, team))["invitation"]["id"]
    look_up = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert await team.ada.one(look_up, ids=[first, second]) == [None, {"id": second}], "the newer ends the older"
    assert await invited_addresses(team.bob, team) == []
    assert await team.bob.one(look_up, ids=[second]) == [None]
    for stranger in (team.bob, eve):
        assert (await stranger.one(REVOKE, id=second))["__typename"] == "NotFound"
    async with database.work(SYSTEM) as work:
        key = await accounts.add_token(work, "ada@example.org", "account", None, [ApiScope.ACCOUNT, ApiScope.READ])
    by_key = Client(ada.url, key)
    for client in (by_key, ada):
        with pytest.raises(GraphQLErrors) as refused:
            await client.one(REVOKE, id=second)
        assert refused.value.codes == ["FORBIDDEN"], "a key touches no team"
    await by_key.close()
    assert await team.ada.one(REVOKE, id=second) == {"__typename": "RevokeInvitationPayload", "revokedId": second}
    assert await post.send() == []
    assert await mails(database) == [("INVITATION", "FAILED", 1), ("INVITATION", "FAILED", 1)]


async def test_only_an_admin_of_the_team_invites_and_not_too_often(
    team: Team, eve: Client, ada: Client, admin: Client, sign_in: SignIn, database: Database
) -> None:
    for client in (team.bob, ada):
        with pytest.raises(GraphQLErrors) as refused:
            await invite(client, team)
        assert refused.value.codes == ["FORBIDDEN"], "a MEMBER, and a key"
    assert (await invite(eve, team))["code"] == "NOT_FOUND"
    assert (await invite(team.ada, team, "eve"))["code"] == "INVALID_INPUT"
    assert await mails(database) == []
    for _ in range(MAILS_PER_ADDRESS.attempts + 1):
        assert (await invite(team.ada, team))["__typename"] == "InviteMemberPayload"
    assert len(await mails(database)) == MAILS_PER_ADDRESS.attempts, "nobody is told that an address got too many"
    for number in range(INVITATIONS_PER_USER.attempts - MAILS_PER_ADDRESS.attempts - 1):
        await invite(team.ada, team, f"{number}@example.org")
    with pytest.raises(GraphQLErrors) as limited:
        await invite(team.ada, team, "kim@example.org")
    assert limited.value.codes == ["RATE_LIMITED"]
    await change(database, update(UserSession).values(checked_at=text("now() - interval '10 minutes'")))
    assert (await invite(team.ada, team))["state"] == "NOT_RECENTLY_CHECKED"


async def test_a_disabled_user_is_not_invited(team: Team, eve: Client, post: Post, database: Database) -> None:
    await invite(team.ada, team)
    await change(database, update(User).where(User.username == "eve").values(disabled_at=func.now()))
    assert await post.send() == []
    assert await mails(database) == [("INVITATION", "FAILED", 1)]
