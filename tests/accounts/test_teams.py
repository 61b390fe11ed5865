"""Teams: accounts that nobody signs in to, whose members see and change what they own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, update

from db.core.viewer import SYSTEM, AccountKind, UserRole
from db.core.work import Database
from db.errors import InvalidInput, NotFound
from db.services import accounts
from db.settings import state_settings
from db.tables import Membership, User
from tests.client import Client, GraphQLErrors

SignIn = Callable[[str], Awaitable[Client]]
CREATE = (
    "mutation($input: CreateTeamInput!) { createTeam(input: $input) { __typename ... on Problem { code message } ... on QuotaExceeded { limit used }"
    " ... on CreateTeamPayload { team { id kind username fullName email role tier isActive hasTotp storage { quotaBytes } creditBalance"
    " members { totalCount edges { node { role user { username fullName } team { username } } } } teams { role } } } } }"
)
TEAMS = (
    "{ viewer { username kind teams { role user { username } team { username members { edges { node { role user { username } } } } } } } }"
)


async def create_team(client: Client, username: str = "bearings", name: str = "Bearings") -> dict[str, Any]:
    return await client.one(CREATE, input={"name": name, "username": username})


async def join(database: Database, team: str, username: str, role: UserRole) -> None:
    """Put a person in a team, as an accepted invitation does."""
    async with database.work(SYSTEM) as work:
        user_id: UUID = await work.scalar(select(User.id).where(User.username == username))
        await work.run(insert(Membership).values(team_id=UUID(team.partition("_")[2]), user_id=user_id, role=role))
        work.revalidate_sessions(user_id)


async def leave(database: Database, team: str, username: str) -> None:
    async with database.work(SYSTEM) as work:
        user_id: UUID = await work.scalar(select(User.id).where(User.username == username))
        await work.run(delete(Membership).where(Membership.team_id == UUID(team.partition("_")[2]), Membership.user_id == user_id))
        work.revalidate_sessions(user_id)


async def test_who_makes_a_team_is_its_admin(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    answer = await create_team(session)
    team = answer["team"]
    membership = {"role": "ADMIN", "user": {"username": "ada", "fullName": "Ada"}, "team": {"username": "bearings"}}
    assert answer == {
        "__typename": "CreateTeamPayload",
        "team": {
            "id": team["id"],
            "kind": "TEAM",
            "username": "bearings",
            "fullName": "Bearings",
            "email": "bearings@teams.invalid",
            "role": "MEMBER",
            "tier": "FREE",
            "isActive": True,
            "hasTotp": False,
            "storage": {"quotaBytes": 0},
            "creditBalance": 0,
            "members": {"totalCount": 1, "edges": [{"node": membership}]},
            "teams": [],
        },
    }
    of_team = {"username": "bearings", "members": {"edges": [{"node": {"role": "ADMIN", "user": {"username": "ada"}}}]}}
    assert await ada.one(TEAMS) == {
        "username": "ada",
        "kind": "PERSON",
        "teams": [{"role": "ADMIN", "user": {"username": "ada"}, "team": of_team}],
    }


async def test_a_user_makes_a_few_teams(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    for number in range(3):
        assert (await create_team(session, f"team-{number}"))["__typename"] == "CreateTeamPayload"
    assert (await create_team(session, "team-3"))["code"] == "QUOTA_EXCEEDED"
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "team-0").values(deleted_at=func.now()))
    assert (await create_team(session, "team-3"))["__typename"] == "CreateTeamPayload"
    assert [row["team"]["username"] for row in (await ada.one("{ viewer { teams { team { username } } } }"))["teams"]] == [
        "team-1",
        "team-2",
        "team-3",
    ]


async def test_a_team_has_a_username_of_its_own(ada: Client, bob: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    assert (await create_team(session, "BOB"))["code"] == "NAME_TAKEN"
    assert (await create_team(session, "bearings"))["__typename"] == "CreateTeamPayload"
    assert (await create_team(session, "Bearings"))["code"] == "NAME_TAKEN"
    with pytest.raises(InvalidInput):
        async with database.work(SYSTEM) as work:
            await accounts.add_user(work, "somebody@Teams.invalid", "somebody")


async def test_only_sessions_of_who_may_write_make_teams(ada: Client, reader: Client, sign_in: SignIn, database: Database) -> None:
    with pytest.raises(GraphQLErrors) as by_key:
        await create_team(ada)
    with pytest.raises(GraphQLErrors) as by_viewer:
        await create_team(await sign_in("reader"))
    assert (by_key.value.codes, by_viewer.value.codes) == (["FORBIDDEN"], ["FORBIDDEN"])
    assert await database.rows(select(User.id).where(User.kind == AccountKind.TEAM)) == []


async def test_nobody_signs_in_to_a_team(ada: Client, anonymous: Client, sign_in: SignIn, database: Database) -> None:
    await create_team(await sign_in("ada"))
    for login in ("bearings", "bearings@teams.invalid"):
        assert (await anonymous.login(login))["__typename"] == "InvalidCredentials"
    with pytest.raises(NotFound):
        async with database.work(SYSTEM) as work:
            await accounts.add_token(work, "bearings@teams.invalid", "nightly")


async def test_members_are_known_to_each_other_by_their_names_alone(
    ada: Client, bob: Client, reader: Client, sign_in: SignIn, database: Database
) -> None:
    team = (await create_team(await sign_in("ada")))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    roles = "query($id: ID!) { user(id: $id) { username members { edges { node { role user { accountId username } } } } } }"
    members = [(edge["node"]["role"], edge["node"]["user"]["username"]) for edge in (await bob.one(roles, id=team))["members"]["edges"]]
    assert members == [("MEMBER", "bob"), ("ADMIN", "ada")]
    ada_id = (await ada.one("{ viewer { id } }"))["id"]
    assert await bob.one(roles, id=ada_id) is None
    assert await reader.one(roles, id=team) is None
    users = "{ users(orderBy: {field: USERNAME, direction: ASC}) { totalCount edges { node { username } } } }"
    assert await bob.one(users) == {"totalCount": 2, "edges": [{"node": {"username": "bearings"}}, {"node": {"username": "bob"}}]}
    assert await reader.one(users) == {"totalCount": 1, "edges": [{"node": {"username": "reader"}}]}
    await leave(database, team, "bob")
    assert await bob.one(roles, id=team) is None
    assert await bob.one(users) == {"totalCount": 1, "edges": [{"node": {"username": "bob"}}]}


async def test_a_disabled_team_is_seen_by_nobody(ada: Client, admin: Client, sign_in: SignIn) -> None:
    team = (await create_team(await sign_in("ada")))["team"]["id"]
    administer = (
        "mutation($input: AdministerUserInput!) { administerUser(input: $input) { __typename ... on AdministerUserPayload"
        " { user { role isActive } } ... on InvalidInput { issues { path } } } }"
    )
    refused = await admin.one(administer, input={"id": team, "role": "ADMIN"})
    assert refused == {"__typename": "InvalidInput", "issues": [{"path": ["role"]}]}
    look_up = "query($id: ID!) { user(id: $id) { id } }"
    assert await ada.one(look_up, id=team) == {"id": team}
    disabled = await admin.one(administer, input={"id": team, "isActive": False})
    assert disabled == {"__typename": "AdministerUserPayload", "user": {"role": "MEMBER", "isActive": False}}
    assert await ada.one(look_up, id=team) is None
    await admin.one(administer, input={"id": team, "isActive": True})
    assert await ada.one(look_up, id=team) == {"id": team}


async def test_who_is_in_too_many_teams_makes_no_other(
    ada: Client, bob: Client, sign_in: SignIn, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_settings(), "memberships_per_user", 1)
    first = (await create_team(await sign_in("bob"), "alloys"))["team"]["id"]
    await join(database, first, "ada", UserRole.VIEWER)
    session = await sign_in("ada")
    answer = await create_team(session)
    assert (answer["code"], answer["limit"], answer["used"]) == ("QUOTA_EXCEEDED", 1, 1)
    assert await ada.one("{ viewer { teams { team { username } } } }") == {"teams": [{"team": {"username": "alloys"}}]}
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "alloys").values(deleted_at=func.now()))
    assert (await create_team(session))["__typename"] == "CreateTeamPayload", "a deleted team does not count"
