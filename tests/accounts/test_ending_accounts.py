"""An account ends: its owner deletes it, restores it for thirty days, and then it is purged. Others see nothing of it meanwhile."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from db.core.networks import NO_CLIENT
from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.services.accounts.sessions import start_session
from db.services.jobs import NewJob, submit
from db.tables import ApiKey, Dataset, Membership, User, UserSession
from db.tables.jobs import JobKind
from tests.accounts.authenticator import Clock, SignIn, add_factor, confirm
from tests.accounts.blocking import wait_until_blocked
from tests.accounts.mailbox import Post, body
from tests.accounts.test_teams import create_team, join
from tests.client import PASSWORD, Client, GraphQLErrors
from tests.conftest import ClientFactory
from tests.exhaustive import exhaustive
from tests.server.test_jobs_command import trellis
from tests.server.test_sockets import UPDATES, bearer, open_websocket, send_subscribe, wait_closed
from tests.server.test_users_command import username

DELETE = (
    "mutation($password: String) { deleteAccount(input: {password: $password}) { __typename ... on DeleteAccountPayload { restorableUntil }"
    " ... on Problem { code message } ... on WrongState { state } } }"
)
RESTORE = (
    "mutation($input: RestoreAccountInput!) { restoreAccount(input: $input) { __typename ... on Problem { code message }"
    " ... on NameTaken { name } ... on TotpRequired { challenge methods } ... on InvalidInput { issues { path } }"
    " ... on LoginPayload { token session { isCurrent } viewer { username deletedAt stats { datasets } } } } }"
)
ADA = {"login": "ada", "password": PASSWORD}
REFUSED = {"__typename": "InvalidCredentials", "code": "INVALID_CREDENTIALS"}


async def delete(session: Client) -> datetime:
    answer = await session.one(DELETE, password=PASSWORD)
    assert answer["__typename"] == "DeleteAccountPayload", answer
    return datetime.fromisoformat(answer["restorableUntil"])


async def restore(client: Client, **fields: str) -> dict[str, Any]:
    answer = await client.one(RESTORE, input=ADA | fields)
    answer.pop("message", None)
    return answer


async def set_user(database: Database, name: str, **values: Any) -> None:
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == name).values(values))


async def test_a_deleted_account_is_gone_at_once_and_comes_back_whole(
    ada: Client, bob: Client, admin: Client, sign_in: SignIn, anonymous: Client, post: Post, database: Database
) -> None:
    dataset, dropped = await ada.create_dataset("kept"), await ada.create_dataset("dropped before")
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dropped)
    await bob.create_dataset("of bob")
    everything = "{ datasets(first: 10) { edges { node { name } } } }"
    session, user_id = await sign_in("ada"), (await ada.one("{ viewer { id } }"))["id"]
    async with open_websocket(ada.url, bearer(session)) as by_session, open_websocket(ada.url, bearer(ada)) as by_key:
        for websocket in (by_session, by_key):
            await send_subscribe(websocket, "1", UPDATES)
        until = await delete(session)
        for websocket in (by_session, by_key):
            async with asyncio.timeout(2):
                assert (await wait_closed(websocket))[0] == 4403
    assert timedelta(days=29) < until - datetime.now(UTC) <= timedelta(days=30)
    assert [await username(bob, client.token or "") for client in (session, ada, bob)] == [None, None, "bob"]
    assert (await anonymous.login("ada"))["code"] == "INVALID_CREDENTIALS"
    assert await admin.one(everything) == {"edges": [{"node": {"name": "of bob"}}]}
    for id_ in (user_id, dataset):
        assert await admin.one("query($id: ID!) { node(id: $id) { id } }", id=id_) is None
    users = await admin.one("{ users(first: 9) { edges { node { username } } } }")
    assert [edge["node"]["username"] for edge in users["edges"]] == ["bob", "admin"]
    (mail,) = await post.send()
    assert (mail["To"], mail["Subject"]) == ("ada@example.org", "Trellis: Your account was deleted")
    assert f"Until {until:%Y-%m-%d} at {until:%H:%M} UTC it can be restored, with `restoreAccount` and your password." in body(mail)

    answer = await restore(anonymous, login="ADA@example.org")
    token = answer.pop("token")
    viewer = {"username": "ada", "deletedAt": None, "stats": {"datasets": 1}}
    assert answer == {"__typename": "LoginPayload", "session": {"isCurrent": True}, "viewer": viewer}
    assert [await username(bob, each) for each in (token, session.token or "", ada.token or "")] == ["ada", None, None], "keys stay revoked"
    assert (await anonymous.login("ada"))["__typename"] == "LoginPayload"
    assert await (await sign_in("ada")).one(everything) == {"edges": [{"node": {"name": "kept"}}]}, "what was deleted before stays so"
    assert "Trellis: Your account was restored" in [mail["Subject"] for mail in await post.send()]
    assert await restore(anonymous) == REFUSED, "there is nothing to restore any more"


async def test_deleting_takes_the_password_or_a_recent_sign_in(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    assert (await ada.post(DELETE, password=PASSWORD))["errors"][0]["extensions"]["code"] == "FORBIDDEN", "a key may not"
    assert (await session.one(DELETE, password="not the password"))["code"] == "INVALID_CREDENTIALS"
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now() - timedelta(minutes=11)))
    assert (await session.one(DELETE))["state"] == "NOT_RECENTLY_CHECKED"
    assert [row.deleted_at for row in await database.rows(select(User.deleted_at).where(User.username == "ada"))] == [None]
    async with database.work(SYSTEM) as work:
        await work.run(update(UserSession).values(checked_at=func.now()))
    assert (await session.one(DELETE))["__typename"] == "DeleteAccountPayload"


async def test_an_account_with_a_job_that_has_not_ended_stays(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    (owner,) = await database.rows(select(User.id).where(User.username == "ada"))
    async with database.work(SYSTEM) as work:
        await submit(work, NewJob(owner.id, JobKind.EXPORT, "nobody"))
    answer = await session.one(DELETE, password=PASSWORD)
    assert (answer["__typename"], answer["state"]) == ("WrongState", "BUSY")
    assert answer["message"] == "1 of the jobs of this account has not ended. Wait or cancel them, then delete it."
    assert await username(ada, session.token or "") == "ada", "nothing has changed"
    counts = await database.rows(select(func.count(ApiKey.revoked_at)))
    assert counts[0][0] == 0


async def test_a_job_that_is_submitted_meanwhile_is_seen(ada: Client, sign_in: SignIn, database: Database) -> None:
    """The deletion waits for the transaction that inserts the job, and finds it then."""
    session = await sign_in("ada")
    (owner,) = await database.rows(select(User.id).where(User.username == "ada"))
    async with database.work(SYSTEM) as work:
        await submit(work, NewJob(owner.id, JobKind.EXPORT, "nobody"))
        deletion = asyncio.create_task(session.one(DELETE, password=PASSWORD))
        await wait_until_blocked(database, deletion)
    assert (await deletion)["state"] == "BUSY"
    assert [row.deleted_at for row in await database.rows(select(User.deleted_at).where(User.username == "ada"))] == [None]


async def test_what_is_made_while_the_account_is_deleted_ends_with_it(
    ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    """A key and a session whose transaction commits after the deletion has revoked what it saw, but before it has the lock."""
    session = await sign_in("ada")
    (owner,) = await database.rows(select(User.id).where(User.username == "ada"))
    async with database.work(SYSTEM) as work:
        key = await accounts.add_token(work, "ada@example.org", "late")
        _, late = await start_session(work, owner.id, NO_CLIENT, timedelta(hours=1), timedelta(hours=1))
        deletion = asyncio.create_task(session.one(DELETE, password=PASSWORD))
        await wait_until_blocked(database, deletion)
    assert (await deletion)["__typename"] == "DeleteAccountPayload"
    token = (await restore(anonymous))["token"]
    assert [await username(ada, each) for each in (token, key, late)] == ["ada", None, None]


async def test_nothing_is_made_for_an_account_that_is_deleted_meanwhile(ada: Client, sign_in: SignIn, database: Database) -> None:
    """Requests that were let in before the deletion, and wait for it: a restored account would have what they make."""
    session = await sign_in("ada")
    make_key = 'mutation { createApiKey(input: {name: "late", scopes: [READ]}) { __typename } }'
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(deleted_at=func.now(), deleted_by_owner=True))
        requests = [asyncio.create_task(request) for request in (session.post(make_key), create_team(session))]
        await wait_until_blocked(database, *requests)
    key, team = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(key, dict)
    assert [error["extensions"]["code"] for error in key["errors"]] == ["FORBIDDEN"]
    assert isinstance(team, GraphQLErrors)
    assert team.codes == ["FORBIDDEN"]
    assert await database.rows(select(ApiKey.id).where(ApiKey.name == "late")) == []
    assert await database.rows(select(Membership.team_id)) == []


async def test_an_account_that_pays_for_a_job_of_its_team_stays(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    team = (await create_team(session, "bearings"))["team"]["id"]
    await join(database, team, "admin", UserRole.ADMIN)
    async with database.work(SYSTEM) as work:
        job = await submit(work, NewJob(UUID(team[5:]), JobKind.EXPORT, "nobody"))
    answer = await session.one(DELETE, password=PASSWORD)
    assert (answer["__typename"], answer["state"]) == ("WrongState", "BUSY")
    assert answer["message"].startswith("1 of the jobs of teams that you made, and pay for, has not ended.")
    assert await username(ada, session.token or "") == "ada", "nothing has changed"
    cancel = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"
    assert (await session.one(cancel, id=f"job_{job.id.hex}"))["__typename"] == "CancelJobPayload"
    assert (await session.one(DELETE, password=PASSWORD))["__typename"] == "DeleteAccountPayload"


async def test_the_last_admin_stays(ada: Client, sign_in: SignIn, admin: Client, database: Database) -> None:
    session = await sign_in("admin")
    assert (await session.one(DELETE, password=PASSWORD))["code"] == "LAST_ADMIN"
    assert await username(ada, session.token or "") == "admin"
    await set_user(database, "ada", role=UserRole.ADMIN)
    assert (await (await sign_in("ada")).one(DELETE, password=PASSWORD))["__typename"] == "DeleteAccountPayload"
    assert (await session.one(DELETE, password=PASSWORD))["code"] == "LAST_ADMIN", "a deleted admin does not count"


async def test_the_only_admin_of_a_team_stays_and_others_leave_it(
    ada: Client, bob: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    session, bobs = await sign_in("ada"), await sign_in("bob")
    team = (await create_team(session, "bearings"))["team"]["id"]
    await create_team(session, "alloys")
    await join(database, team, "bob", UserRole.MEMBER)
    answer = await session.one(DELETE, password=PASSWORD)
    assert answer["__typename"] == "LastAdmin"
    assert answer["message"].startswith("This would leave alloys, bearings without an ADMIN.")
    assert await username(ada, session.token or "") == "ada"
    async with database.work(SYSTEM) as work:
        await work.run(update(Membership).values(role=UserRole.ADMIN))
        await work.run(update(User).where(User.username == "alloys").values(deleted_at=func.now()))
    answers = await asyncio.gather(*(client.one(DELETE, password=PASSWORD) for client in (session, bobs)))
    assert sorted(each["__typename"] for each in answers) == ["DeleteAccountPayload", "LastAdmin"], "of two who leave at once, one stays"
    name = "ada" if answers[0]["__typename"] == "DeleteAccountPayload" else "bob"
    assert [row.n for row in await database.rows(select(func.count().label("n")).where(Membership.team_id == UUID(team[5:])))] == [1]
    assert (await restore(anonymous, login=name))["__typename"] == "LoginPayload"
    assert [row.n for row in await database.rows(select(func.count().label("n")).where(Membership.team_id == UUID(team[5:])))] == [1]


async def test_names_are_free_at_once_and_restoring_says_so(
    ada: Client, sign_in: SignIn, anonymous: Client, make_client: ClientFactory, database: Database
) -> None:
    await delete(await sign_in("ada"))
    other = await make_client("ada")
    await set_user(database, "ada", email=User.email)
    assert await username(other, other.token or "") == "ada"
    assert await restore(anonymous) == {"__typename": "NameTaken", "code": "NAME_TAKEN", "name": "email"}
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada", User.deleted_at.is_(None)).values(email="other@example.org"))
    assert await restore(anonymous) == {"__typename": "NameTaken", "code": "NAME_TAKEN", "name": "ada"}
    assert (await restore(anonymous, username="not a name"))["issues"] == [{"path": ["username"]}]
    assert (await restore(anonymous, username="ada2"))["viewer"]["username"] == "ada2"
    assert await username(other, other.token or "") == "ada"


async def test_an_account_is_restored_once(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    await delete(await sign_in("ada"))
    answers = await asyncio.gather(*(restore(anonymous) for _ in range(3)))
    assert sorted(answer["__typename"] for answer in answers) == ["InvalidCredentials", "InvalidCredentials", "LoginPayload"]
    assert [row.n for row in await database.rows(select(func.count().label("n")).where(UserSession.ended_at.is_(None)))] == [1]


async def test_an_account_whose_purge_starts_meanwhile_is_not_restored(
    ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    await ada.create_dataset("wine")
    await delete(await sign_in("ada"))
    async with database.work(SYSTEM) as work:
        await work.run(update(User).where(User.username == "ada").values(purge_started_at=func.now()))
        restoring = asyncio.create_task(restore(anonymous))
        await wait_until_blocked(database, restoring)
    assert await restoring == REFUSED
    (row,) = await database.rows(select(User.deleted_at, Dataset.deleted_at.label("of_dataset")).join(Dataset, Dataset.owner_id == User.id))
    assert row.deleted_at == row.of_dataset is not None, "nothing of it was restored"


async def test_who_has_an_app_restores_with_a_code(
    ada: Client, sign_in: SignIn, anonymous: Client, clock: Clock, database: Database
) -> None:
    session = await sign_in("ada")
    app = await add_factor(session, clock)
    await delete(session)
    required = await restore(anonymous)
    assert (required["__typename"], required["methods"]) == ("TotpRequired", ["TOTP", "BACKUP_CODE"])
    assert [row.n for row in await database.rows(select(func.count(User.deleted_at).label("n")))] == [1], (
        "the password alone restores nothing"
    )
    assert (await confirm(anonymous, required["challenge"], app.wrong_codes(1)[0]))["code"] == "INVALID_CREDENTIALS"
    assert (await anonymous.login("ada"))["code"] == "INVALID_CREDENTIALS"
    answers = await asyncio.gather(*(confirm(anonymous, required["challenge"], app.code()) for _ in range(3)))
    assert sorted(answer["__typename"] for answer in answers) == ["InvalidInput", "InvalidInput", "LoginPayload"]
    assert (await anonymous.login("ada"))["__typename"] == "TotpRequired"


@pytest.mark.parametrize(
    "change",
    [
        {"deleted_at": text("now() - interval '30 days'")},
        exhaustive({"deleted_by_owner": False}),
        exhaustive({"disabled_at": text("now()")}),
        exhaustive({"purge_started_at": text("now()")}),
        {"password_hash": None},
    ],
    ids=["too late", "deleted by an operator", "disabled", "being purged", "without a password"],
)
async def test_what_cannot_be_restored_answers_as_an_unknown_name(
    change: dict[str, Any], ada: Client, sign_in: SignIn, anonymous: Client, database: Database
) -> None:
    await delete(await sign_in("ada"))
    await set_user(database, "ada", **change)
    assert await restore(anonymous) == REFUSED
    assert await restore(anonymous, login="nobody") == REFUSED
    assert await restore(anonymous, password="not the password") == REFUSED
    assert [row.n for row in await database.rows(select(func.count(User.deleted_at).label("n")))] == [1]


async def test_guesses_of_a_deleted_password_are_slowed_down(ada: Client, sign_in: SignIn, anonymous: Client) -> None:
    await delete(await sign_in("ada"))
    answers = await asyncio.gather(*(anonymous.post(RESTORE, input=ADA | {"password": f"guess {n}"}) for n in range(8)))
    codes = [answer["errors"][0]["extensions"]["code"] for answer in answers if answer.get("errors")]
    assert codes == ["RATE_LIMITED"] * 3
    assert (await anonymous.post(RESTORE, input=ADA))["errors"][0]["extensions"]["code"] == "RATE_LIMITED"


@pytest.mark.exhaustive
async def test_operators_delete_and_restore(ada: Client, sign_in: SignIn, anonymous: Client, database: Database) -> None:
    await ada.create_dataset("wine")
    await sign_in("ada")
    answer = await trellis("user", "delete", "ada@example.org")
    assert (answer.returncode, answer.stdout) == (
        0,
        "ada@example.org is deleted. `trellis user restore ada@example.org` undoes it, until the account is purged.\n",
    )
    assert await restore(anonymous) == REFUSED, "only what its owner deleted"
    assert "No user has the email address" in (await trellis("user", "delete", "ada@example.org")).stderr
    assert "No deleted account that can be restored had" in (await trellis("user", "restore", "eve")).stderr
    assert (await trellis("user", "restore", "ada", "--username", "ada2")).returncode == 0
    assert (await anonymous.login("ada2"))["__typename"] == "LoginPayload"
    assert [row.deleted_at for row in await database.rows(select(Dataset.deleted_at))] == [None]


async def test_operators_restore_a_team_with_its_members(ada: Client, sign_in: SignIn, database: Database) -> None:
    session = await sign_in("ada")
    team = (await create_team(session, "bearings"))["team"]["id"]
    mutation = "mutation($id: ID!) { deleteTeam(input: {id: $id}) { __typename } }"
    assert (await session.one(mutation, id=team))["__typename"] == "DeleteTeamPayload"
    await create_team(session, "bearings")
    assert "The username 'bearings' is taken." in (await trellis("user", "restore", "bearings")).stderr
    assert (await trellis("user", "restore", "bearings", "--username", "old-bearings")).returncode == 0
    teams = await session.one("{ viewer { teams { role team { username email } } } }")
    names = [membership["team"] for membership in teams["teams"]]
    assert sorted(names, key=lambda each: each["username"]) == [
        {"username": "bearings", "email": "bearings@teams.invalid"},
        {"username": "old-bearings", "email": "old-bearings@teams.invalid"},
    ]
