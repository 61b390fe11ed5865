"""An admin invites somebody to register: one address, once, for seven days, and only while they are an admin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.limits.sign_in_attempts import MAILS_PER_ADDRESS
from db.tables import Invitation, User, UserSession
from tests.accounts.mailbox import Post, body, mails, token_of
from tests.accounts.test_registering import EVE, REGISTER, registered, usernames, verify
from tests.accounts.test_teams import create_team
from tests.client import Client
from tests.exhaustive import few
from tests.server.test_jobs_command import json_lines, trellis

SignIn = Callable[[str], Awaitable[Client]]
SetRegistration = Callable[[str], None]
INVITE = (
    "mutation($email: String!, $role: UserRole! = MEMBER) { inviteMember(input: {email: $email, role: $role}) { __typename"
    " ... on InviteMemberPayload { invitation { id email role invitedBy { accountId username fullName } createdAt expiresAt } } } }"
)
REVOKE = "mutation($id: ID!) { revokeInvitation(input: {id: $id}) { __typename ... on RevokeInvitationPayload { revokedId } } }"
MINE = "{ viewer { invitations { edges { node { id email } } } } }"


@pytest.fixture
async def root(make_client: Callable[..., Awaitable[Client]], sign_in: SignIn, set_registration: SetRegistration) -> Client:
    """An admin who may be demoted, where registration takes an invitation."""
    set_registration("invited")
    await make_client("root", UserRole.ADMIN)
    return await sign_in("root")


async def invited(root: Client, post: Post, **fields: Any) -> str:
    """Invite Eve; return the token of the mail."""
    assert (await root.one(INVITE, email="eve@example.org", **fields))["__typename"] == "InviteMemberPayload"
    return await post.token()


async def open_addresses(client: Client) -> list[str]:
    return [edge["node"]["email"] for edge in (await client.one(MINE))["invitations"]["edges"]]


async def test_who_is_invited_registers_with_the_role_of_the_invitation(
    root: Client, anonymous: Client, post: Post, database: Database
) -> None:
    invitation = (await root.one(INVITE, email=" Eve@example.org ", role="VIEWER"))["invitation"]
    user_id = (await root.one("{ viewer { id } }"))["id"]
    assert invitation["invitedBy"] == {"accountId": user_id, "username": "root", "fullName": "Root"}
    assert (invitation["email"], invitation["role"]) == ("Eve@example.org", "VIEWER")
    lifetime = await database.rows(select((Invitation.expires_at - Invitation.created_at).label("lifetime")))
    assert [row.lifetime.total_seconds() for row in lifetime] == [7 * 86_400]
    assert await open_addresses(root) == ["Eve@example.org"]
    (mail,) = await post.send(public_url="https://trellis.example.org")
    assert (mail["To"], mail["Subject"]) == ("Eve@example.org", "Trellis: You are invited")
    assert "root invites you to register with this address. Your role will be VIEWER.\n" in body(mail)
    assert f"https://trellis.example.org/register#token={token_of(mail)}\n" in body(mail)
    token = await registered(anonymous, post, invitationToken=token_of(mail))
    assert await open_addresses(root) == ["Eve@example.org"], "it is used when the address is verified"
    assert (await verify(anonymous, token))["username"] == "eve"
    assert await open_addresses(root) == []
    assert [row.role for row in await database.rows(select(User.role).where(User.username == "eve"))] == [UserRole.VIEWER]
    again = await anonymous.one(REGISTER, input={**EVE, "username": "eve2", "invitationToken": token_of(mail)})
    assert again["issues"] == [{"path": ["invitationToken"]}]


async def test_admins_see_the_invitations_of_all_and_others_their_own(
    root: Client, admin: Client, ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    """Those to a team are in its own list alone."""
    for sender, email in ((root, "eve@example.org"), (await sign_in("admin"), "mallory@example.org")):
        assert (await sender.one(INVITE, email=email))["__typename"] == "InviteMemberPayload"
    session = await sign_in("ada")
    team = (await create_team(session))["team"]["id"]
    to_team = 'mutation($id: ID!) { inviteMember(input: {email: "bob@example.org", role: MEMBER, teamId: $id}) { __typename } }'
    assert (await session.one(to_team, id=team))["__typename"] == "InviteMemberPayload"
    everybodys = "{ invitations { totalCount edges { node { email invitedBy { username } } } } }"
    nodes = [
        {"node": {"email": "mallory@example.org", "invitedBy": {"username": "admin"}}},
        {"node": {"email": "eve@example.org", "invitedBy": {"username": "root"}}},
    ]
    for client in (root, admin):
        assert await client.one(everybodys) == {"totalCount": 2, "edges": nodes}
    assert await ada.one(everybodys) == {"totalCount": 0, "edges": []}
    assert (await anonymous.post(everybodys))["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "root").values(role=UserRole.MEMBER))
        work.revalidate_sessions(UUID((await root.one("{ viewer { id } }"))["id"][5:]))
    assert await root.one(everybodys) == {"totalCount": 1, "edges": nodes[1:]}, "who was an admin sees what they sent"


async def test_a_page_learns_who_may_register(anonymous: Client, set_registration: SetRegistration) -> None:
    for value in ("closed", "invited", "open"):
        set_registration(value)
        assert await anonymous.one("{ registration }") == value.upper()


async def test_an_invitation_is_used_once(root: Client, anonymous: Client, post: Post, database: Database) -> None:
    invitation = await invited(root, post)
    tokens = [await registered(anonymous, post, invitationToken=invitation) for _ in range(2)]
    assert (await verify(anonymous, tokens[0]))["__typename"] == "VerifyEmailPayload"
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "eve").values(email="other@example.org"))
    answer = await anonymous.one(REGISTER, input={**EVE, "username": "eve2", "invitationToken": invitation})
    assert answer["issues"] == [{"path": ["invitationToken"]}], "although nobody has its address any more"
    assert (await verify(anonymous, tokens[1], username="eve2"))["issues"] == [{"path": ["token"]}]
    assert await usernames(database) == ["eve", "root"]


CHANGES = {
    "revoked": update(Invitation).values(revoked_at=text("now()")),
    "expired": update(Invitation).values(expires_at=text("now()")),
    "its sender is no admin": update(User).where(User.username == "root").values(role=UserRole.MEMBER),
    "its sender is disabled": update(User).where(User.username == "root").values(disabled_at=text("now()")),
}


@pytest.mark.parametrize("change", few(2, CHANGES.values()), ids=CHANGES.keys())
async def test_an_invitation_is_void_after(change: Any, root: Client, anonymous: Client, post: Post, database: Database) -> None:
    invitation = await invited(root, post)
    token = await registered(anonymous, post, invitationToken=invitation)
    async with database.work(SYSTEM) as work:
        await work.run(change)
    answer = await anonymous.one(REGISTER, input={**EVE, "invitationToken": invitation})
    assert answer["issues"] == [{"path": ["invitationToken"]}], "for a registration"
    assert (await verify(anonymous, token))["issues"] == [{"path": ["token"]}], "and for one that waits to be verified"
    assert await usernames(database) == ["root"]


async def test_an_invitation_is_for_its_address_alone(root: Client, anonymous: Client, post: Post, database: Database) -> None:
    invitation = await invited(root, post)
    identifier, _, secret = invitation.partition(".")
    for wrong in ({"email": "mallory@example.org"}, {"invitationToken": f"{identifier}.{'A' * 43}"}, {"invitationToken": secret}):
        answer = await anonymous.one(REGISTER, input={**EVE, "invitationToken": invitation, **wrong})
        assert answer["issues"] == [{"path": ["invitationToken"]}], wrong
    assert await mails(database) == [("INVITATION", "SENT", 1)]


async def test_a_newer_invitation_ends_the_older_and_one_that_ended_is_not_mailed(
    root: Client, anonymous: Client, post: Post, database: Database
) -> None:
    first = (await root.one(INVITE, email="eve@example.org", role="ADMIN"))["invitation"]["id"]
    second = (await root.one(INVITE, email="EVE@example.org"))["invitation"]["id"]
    (mail,) = await post.send()
    assert "Your role will be MEMBER." in body(mail)
    assert await mails(database) == [("INVITATION", "FAILED", 1), ("INVITATION", "SENT", 1)]
    assert (await root.one(REVOKE, id=first))["__typename"] == "NotFound", "it has ended"
    assert await root.one(REVOKE, id=second) == {"__typename": "RevokeInvitationPayload", "revokedId": second}
    assert await root.one("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=[first, second]) == [None, None]
    answer = await anonymous.one(REGISTER, input={**EVE, "invitationToken": token_of(mail)})
    assert answer["issues"] == [{"path": ["invitationToken"]}]


async def test_whoever_has_an_account_is_told_to_sign_in(root: Client, ada: Client, post: Post) -> None:
    answer = await root.one(INVITE, email="ADA@example.org")
    assert answer["invitation"]["email"] == "ADA@example.org", "as for an address that is unknown"
    (mail,) = await post.send()
    assert "you have an account with this address already: sign in" in body(mail)
    assert "\n  " not in body(mail), "it has no token"


async def test_only_an_admin_invites_and_only_where_registration_is_not_closed(
    root: Client, ada: Client, admin: Client, sign_in: SignIn, post: Post, database: Database, set_registration: SetRegistration
) -> None:
    refused = [await client.post(INVITE, email="eve@example.org") for client in (await sign_in("ada"), admin)]
    assert [answer["errors"][0]["extensions"]["code"] for answer in refused] == ["FORBIDDEN"] * 2, "a member, and an admin's API key"
    assert (await root.one(INVITE, email="eve"))["__typename"] == "InvalidInput"
    set_registration("closed")
    assert (await root.one(INVITE, email="eve@example.org"))["__typename"] == "WrongState"
    assert await mails(database) == []
    set_registration("open")
    for _ in range(MAILS_PER_ADDRESS.attempts):
        await root.one(INVITE, email="eve@example.org")
    limited = await root.post(INVITE, email="EVE@example.org")
    assert [error["extensions"]["code"] for error in limited["errors"]] == ["RATE_LIMITED"]
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=text("now() - interval '10 minutes'")))
    assert (await root.one(INVITE, email="kim@example.org"))["__typename"] == "WrongState", "root has to sign in again"
    assert len(await mails(database)) == MAILS_PER_ADDRESS.attempts


@pytest.mark.exhaustive
async def test_an_operator_invites(root: Client, anonymous: Client, post: Post, database: Database) -> None:
    invited = await trellis("user", "invite", "eve@example.org", "--role", "viewer", "--by", "ROOT@example.org")
    (line,) = await json_lines("mail", "list", "--status", "pending")
    expected = (
        f"eve@example.org is invited. `trellis mail show {line['id']}` prints the mail, to hand over where there is no mail server.\n"
    )
    assert (invited.stdout, invited.stderr) == (expected, "")
    assert await open_addresses(root) == ["eve@example.org"]
    shown = await trellis("mail", "show", line["id"])
    assert "root invites you to register with this address. Your role will be VIEWER." in shown.stdout
    assert await post.send(), "it is sent all the same"
    await trellis("user", "invite", "kim@example.org", TRELLIS_REGISTRATION="closed")
    names = await database.rows(select(User.username).join(Invitation, Invitation.invited_by_id == User.id).order_by(Invitation.id))
    assert [row.username for row in names] == ["root", "admin"], "by default in the name of the first admin"
    unknown = await trellis("user", "invite", "kim@example.org", "--by", "eve@example.org")
    assert (unknown.returncode, unknown.stderr.startswith("No admin has the email address 'eve@example.org'.")) == (1, True)
