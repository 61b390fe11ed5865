"""ADMINs of a team change its members, members leave it, and one ADMIN always stays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, update

from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.errors import NameTaken
from db.services import accounts
from db.services.accounts.sessions import RECENT
from db.services.jobs import NewJob, submit
from db.settings import state_settings
from db.tables import Dataset, Job, Membership, User, UserSession
from db.tables.jobs import JobKind
from tests.accounts.blocking import wait_until_blocked
from tests.accounts.mailbox import mails
from tests.accounts.test_teams import create_team, join
from tests.audit.test_events import events
from tests.client import Client, GraphQLErrors

SignIn = Callable[[str], Awaitable[Client]]
_PROBLEM = "__typename ... on Problem { code message } ... on NotFound { id }"
SET_ROLE = (
    "mutation($input: SetTeamRoleInput!) { setTeamRole(input: $input) { ... on SetTeamRolePayload { membership { role user { username }"
    f" team {{ username }} }} }} {_PROBLEM} }} }}"
)
REMOVE = (
    "mutation($input: RemoveTeamMemberInput!) { removeTeamMember(input: $input) { ... on RemoveTeamMemberPayload { team { username members"
    f" {{ edges {{ node {{ user {{ username }} }} }} }} }} }} {_PROBLEM} }} }}"
)
LEAVE = f"mutation($input: LeaveTeamInput!) {{ leaveTeam(input: $input) {{ ... on LeaveTeamPayload {{ leftId }} {_PROBLEM} }} }}"
DELETE = f"mutation($input: DeleteTeamInput!) {{ deleteTeam(input: $input) {{ ... on DeleteTeamPayload {{ deletedId }} ... on WrongState {{ state }} {_PROBLEM} }} }}"
MINE = "{ viewer { teams { role team { username } } } }"


class Team:
    """A team that Ada made, with Bob in it as MEMBER, and the ids of the three."""

    def __init__(self, database: Database, ada: Client, bob: Client, id: str, ada_id: str, bob_id: str) -> None:
        self.database = database
        self.ada, self.bob = ada, bob
        self.id, self.ada_id, self.bob_id = id, ada_id, bob_id

    @property
    def key(self) -> UUID:
        return UUID(self.id.partition("_")[2])

    async def roles(self) -> dict[str, str]:
        statement = select(User.username, Membership.role).join(User, User.id == Membership.user_id).where(Membership.team_id == self.key)
        return {row.username: row.role.name for row in await self.database.rows(statement)}

    async def set_role(self, sender: Client, user: str, role: str) -> dict[str, Any]:
        return await sender.one(SET_ROLE, input={"teamId": self.id, "userId": user, "role": role})

    async def remove(self, sender: Client, user: str) -> dict[str, Any]:
        return await sender.one(REMOVE, input={"teamId": self.id, "userId": user})

    async def leave(self, sender: Client) -> dict[str, Any]:
        return await sender.one(LEAVE, input={"teamId": self.id})

    async def delete(self, sender: Client) -> dict[str, Any]:
        return await sender.one(DELETE, input={"id": self.id})

    async def submit_job(self) -> str:
        """Submit a job of the team to a queue that no worker serves."""
        async with self.database.work(SYSTEM) as work:
            return f"job_{(await submit(work, NewJob(self.key, JobKind.EXPORT, 'nobody'))).id.hex}"


async def id_of(client: Client) -> str:
    return (await client.one("{ viewer { id } }"))["id"]


@pytest.fixture
async def team(ada: Client, bob: Client, sign_in: SignIn, database: Database) -> Team:
    session = await sign_in("ada")
    team = (await create_team(session))["team"]["id"]
    await join(database, team, "bob", UserRole.MEMBER)
    return Team(database, session, await sign_in("bob"), team, await id_of(ada), await id_of(bob))


async def test_an_admin_changes_the_role_of_a_member(team: Team) -> None:
    answer = await team.set_role(team.ada, team.bob_id, "VIEWER")
    membership = {"role": "VIEWER", "user": {"username": "bob"}, "team": {"username": "bearings"}}
    assert answer == {"__typename": "SetTeamRolePayload", "membership": membership}
    assert await team.roles() == {"ada": "ADMIN", "bob": "VIEWER"}
    assert await team.bob.one(MINE) == {"teams": [{"role": "VIEWER", "team": {"username": "bearings"}}]}
    before = await events(team.ada)
    assert (await team.set_role(team.ada, team.bob_id, "VIEWER"))["__typename"] == "SetTeamRolePayload"
    assert await events(team.ada) == before, "it was the role already"
    changed = {name: before[-1][name] for name in ("action", "owner", "subjectId", "before", "after", "actor")}
    assert changed == {
        "action": "set_team_role",
        "owner": {"username": "bearings"},
        "subjectId": team.id,
        "before": {"userId": team.bob_id, "role": "MEMBER"},
        "after": {"userId": team.bob_id, "role": "VIEWER"},
        "actor": {"accountId": team.ada_id, "username": "ada", "fullName": "Ada"},
    }


async def test_who_is_removed_loses_sight_at_once(team: Team, database: Database) -> None:
    job = await team.submit_job()
    look_up = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    assert await team.bob.one(look_up, ids=[team.id, job]) == [{"id": team.id}, {"id": job}]
    async with aclosing(team.bob.events(job)) as stream:
        assert (await anext(stream))["type"] == "CREATED"
        members = {"edges": [{"node": {"user": {"username": "ada"}}}]}
        assert await team.remove(team.ada, team.bob_id) == {
            "__typename": "RemoveTeamMemberPayload",
            "team": {"username": "bearings", "members": members},
        }
        async with asyncio.timeout(2):
            with pytest.raises(GraphQLErrors) as ended:
                await anext(stream)
        assert ended.value.codes == ["NOT_FOUND"]
    assert await team.bob.one(look_up, ids=[team.id, job]) == [None, None]
    assert await team.bob.one(MINE) == {"teams": []}
    assert await team.roles() == {"ada": "ADMIN"}
    assert (await team.remove(team.ada, team.bob_id))["id"] == team.bob_id, "they are no member any more"
    last = (await events(team.ada))[-1]
    assert (last["action"], last["owner"], last["subjectId"]) == ("remove_team_member", {"username": "bearings"}, team.id)
    assert (last["before"], last["after"]) == ({"userId": team.bob_id, "role": "MEMBER"}, None)


async def test_a_member_leaves(team: Team) -> None:
    assert await team.leave(team.bob) == {"__typename": "LeaveTeamPayload", "leftId": team.id}
    assert await team.roles() == {"ada": "ADMIN"}
    assert (await team.leave(team.bob))["id"] == team.id
    last = (await events(team.ada))[-1]
    assert (last["action"], last["actor"]["username"], last["before"]) == ("leave_team", "bob", {"userId": team.bob_id, "role": "MEMBER"})


async def test_an_operation_goes_on_with_the_rights_that_its_mutations_left(team: Team) -> None:
    document = (
        f"mutation($team: ID!, $ada: ID!, $bob: ID!) {{ one: setTeamRole(input: {{teamId: $team, userId: $bob, role: ADMIN}}) {{ {_PROBLEM} }}"
        f" two: removeTeamMember(input: {{teamId: $team, userId: $ada}}) {{ __typename ... on RemoveTeamMemberPayload {{ team {{ id }} }} }}"
        f" three: leaveTeam(input: {{teamId: $team}}) {{ {_PROBLEM} }} }}"
    )
    answer = (await team.ada.post(document, team=team.id, ada=team.ada_id, bob=team.bob_id))["data"]
    assert answer["two"] == {"__typename": "RemoveTeamMemberPayload", "team": None}
    assert (answer["one"]["__typename"], answer["three"]["__typename"]) == ("SetTeamRolePayload", "NotFound")
    assert await team.roles() == {"bob": "ADMIN"}


async def test_the_last_admin_who_can_sign_in_stays(team: Team, database: Database) -> None:
    refused = [await team.set_role(team.ada, team.ada_id, "MEMBER"), await team.remove(team.ada, team.ada_id), await team.leave(team.ada)]
    assert [answer["code"] for answer in refused] == ["LAST_ADMIN"] * 3
    assert "without" in refused[0]["message"]
    assert "bearings" in refused[0]["message"]
    await team.set_role(team.ada, team.bob_id, "ADMIN")
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "bob").values(disabled_at=func.now()))
    assert (await team.leave(team.ada))["code"] == "LAST_ADMIN", "Bob cannot sign in"
    assert await team.roles() == {"ada": "ADMIN", "bob": "ADMIN"}
    assert (await team.set_role(team.ada, team.bob_id, "MEMBER"))["__typename"] == "SetTeamRolePayload"
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "bob").values(disabled_at=None))
    await team.set_role(team.ada, team.bob_id, "ADMIN")
    assert (await team.leave(team.ada))["__typename"] == "LeaveTeamPayload"
    assert await team.roles() == {"bob": "ADMIN"}


async def test_of_two_admins_who_lower_each_other_at_once_one_stays(team: Team, database: Database) -> None:
    await team.set_role(team.ada, team.bob_id, "ADMIN")
    async with database.work(SYSTEM) as work:
        await work.run(select(User.id).where(User.id == team.key).with_for_update())
        both = [
            asyncio.create_task(team.set_role(sender, target, "MEMBER"))
            for sender, target in ((team.ada, team.bob_id), (team.bob, team.ada_id))
        ]
        await wait_until_blocked(database, *both)  # both have been let in as ADMINs
    results = await asyncio.gather(*both, return_exceptions=True)
    (refused,) = [result for result in results if isinstance(result, GraphQLErrors)]
    assert refused.codes == ["FORBIDDEN"]
    lowered = "bob" if isinstance(results[1], GraphQLErrors) else "ada"
    assert await team.roles() == {"ada": "ADMIN", "bob": "ADMIN"} | {lowered: "MEMBER"}


async def test_only_admins_with_a_session_change_members(
    team: Team, ada: Client, admin: Client, reader: Client, sign_in: SignIn, database: Database
) -> None:
    before = await team.roles()
    for sender, code in ((team.bob, "FORBIDDEN"), (ada, "FORBIDDEN")):
        for change in (team.set_role(sender, team.bob_id, "ADMIN"), team.remove(sender, team.ada_id), team.delete(sender)):
            with pytest.raises(GraphQLErrors) as refused:
                await change
            assert refused.value.codes == [code]
    with pytest.raises(GraphQLErrors):
        await team.leave(ada)
    stranger = await sign_in("admin")
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "admin").values(role=UserRole.MEMBER))
    try:
        answers = [
            await team.set_role(stranger, team.bob_id, "ADMIN"),
            await team.remove(stranger, team.bob_id),
            await team.delete(stranger),
            await team.leave(stranger),
        ]
    finally:
        async with database.work(SYSTEM) as work:
            await work.run(update(User).where(User.username == "admin").values(role=UserRole.ADMIN))
    unknown = f"user_{'0' * 32}"
    real = {(answer["code"], answer["id"], answer["message"]) for answer in answers}
    made_up = await stranger.one(DELETE, input={"id": unknown})
    assert real == {("NOT_FOUND", team.id, made_up["message"].replace(unknown, team.id))}
    await join(database, team.id, "reader", UserRole.ADMIN)
    with pytest.raises(GraphQLErrors) as refused:
        await team.remove(await sign_in("reader"), team.bob_id)
    assert refused.value.codes == ["FORBIDDEN"], "who is VIEWER in the whole of Trellis changes nothing in a team"
    assert await team.roles() == {**before, "reader": "ADMIN"}


async def test_an_admin_of_the_installation_manages_every_team(team: Team, sign_in: SignIn) -> None:
    root = await sign_in("admin")
    assert (await team.set_role(root, team.bob_id, "ADMIN"))["__typename"] == "SetTeamRolePayload"
    assert (await team.remove(root, team.ada_id))["__typename"] == "RemoveTeamMemberPayload"
    assert (await team.remove(root, team.bob_id))["code"] == "LAST_ADMIN"
    assert await team.roles() == {"bob": "ADMIN"}


async def test_a_deleted_team_leaves_everything_and_its_names_are_free(team: Team, ada: Client, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        dataset = await ada.create_dataset("wine")
        await work.run(update(Dataset).where(Dataset.id == UUID(dataset.partition("_")[2])).values(owner_id=team.key))
    own = await ada.create_dataset("beer")
    job = await team.submit_job()
    busy = await team.delete(team.ada)
    assert (busy["code"], busy["state"]) == ("WRONG_STATE", "BUSY")
    assert (await team.bob.one("mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }", id=job))[
        "__typename"
    ] == "CancelJobPayload"
    async with aclosing(team.bob.subscribe("subscription { jobUpdates { id } }")):
        assert await team.delete(team.ada) == {"__typename": "DeleteTeamPayload", "deletedId": team.id}
    look_up = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    for member in (team.ada, team.bob):
        assert await member.one(look_up, ids=[team.id, dataset, job]) == [None, None, None]
        assert await member.one(MINE) == {"teams": []}
    assert await ada.one("{ datasets { totalCount edges { node { id } } } }") == {"totalCount": 1, "edges": [{"node": {"id": own}}]}
    assert (await team.delete(team.ada))["code"] == "NOT_FOUND"
    assert (await create_team(team.bob))["__typename"] == "CreateTeamPayload", "the username is free"
    marked = select(User.deleted_at, Dataset.deleted_at.label("of_dataset")).join(Dataset, Dataset.owner_id == User.id)
    (row,) = await database.rows(marked.where(User.id == team.key))
    assert row.deleted_at == row.of_dataset is not None, "a restore brings back what has the time of the team"
    assert len(await database.rows(select(Job.id).where(Job.owner_id == team.key))) == 1
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER"}


async def test_an_operator_restores_a_team_with_its_members_and_what_it_owned(team: Team, ada: Client, database: Database) -> None:
    dataset = await ada.create_dataset("wine")
    async with database.work(SYSTEM) as work:
        await work.run(update(Dataset).where(Dataset.id == UUID(dataset.partition("_")[2])).values(owner_id=team.key))
    assert (await team.delete(team.ada))["__typename"] == "DeleteTeamPayload"
    assert (await create_team(team.bob))["__typename"] == "CreateTeamPayload", "another has its username meanwhile"
    with pytest.raises(NameTaken):
        async with database.work(SYSTEM) as work:
            await accounts.restore_by_login(work, state_settings(), "bearings", None)
    async with database.work(SYSTEM) as work:
        await accounts.restore_by_login(work, state_settings(), "bearings", "old-bearings")
    found = await team.bob.one("query($ids: [ID!]!) { nodes(ids: $ids) { id ... on User { username email } } }", ids=[team.id, dataset])
    assert found == [{"id": team.id, "username": "old-bearings", "email": "old-bearings@teams.invalid"}, {"id": dataset}]
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER"}
    assert await mails(database) == [], "nobody reads the address of a team"


async def test_deleting_takes_a_recent_sign_in(team: Team, database: Database) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - RECENT))
    assert (await team.delete(team.ada))["state"] == "NOT_RECENTLY_CHECKED"
    assert await team.roles() == {"ada": "ADMIN", "bob": "MEMBER"}
    assert await team.ada.one(MINE) == {"teams": [{"role": "ADMIN", "team": {"username": "bearings"}}]}


async def test_a_job_that_is_submitted_while_its_team_is_deleted_is_seen(team: Team, database: Database) -> None:
    """The deletion waits for the transaction that inserts the job, and finds it then."""
    async with database.work(SYSTEM) as work:
        await submit(work, NewJob(team.key, JobKind.EXPORT, "nobody"))
        deletion = asyncio.create_task(team.delete(team.ada))
        await wait_until_blocked(database, deletion)
    assert (await deletion)["state"] == "BUSY"
    assert (await database.rows(select(User.deleted_at).where(User.id == team.key)))[0].deleted_at is None
    assert await team.ada.one(MINE) == {"teams": [{"role": "ADMIN", "team": {"username": "bearings"}}]}


async def test_of_two_last_admins_who_leave_at_once_one_stays(team: Team, database: Database) -> None:
    await team.set_role(team.ada, team.bob_id, "ADMIN")
    async with database.work(SYSTEM) as work:
        await work.run(select(User.id).where(User.id == team.key).with_for_update())
        both = [asyncio.create_task(team.leave(client)) for client in (team.ada, team.bob)]
        await wait_until_blocked(database, *both)
    answers = await asyncio.gather(*both)
    assert sorted(answer["__typename"] for answer in answers) == ["LastAdmin", "LeaveTeamPayload"]
    stays = "ada" if answers[0]["__typename"] == "LastAdmin" else "bob"
    assert await team.roles() == {stays: "ADMIN"}
