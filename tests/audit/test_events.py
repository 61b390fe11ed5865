"""The audit says who changed what, from where; its owner, its actor and admins see it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from sqlalchemy import LargeBinary, select, text

from db.core.audit import MAX_VALUE_BYTES, SECRET_COLUMNS
from db.core.viewer import SYSTEM, UserRole
from db.core.work import Database
from db.services import accounts
from db.tables import AuditEvent, Table
from tests.client import PASSWORD, Client
from tests.conftest import PASSWORD_HASH, ClientFactory
from tests.server.test_jobs_command import trellis

SignIn = Callable[[str], Awaitable[Client]]
ADA = "ada@example.org"
FIELDS = "action actor { accountId username fullName } credentialId owner { username } subjectId subject { id } before after origin ipAddress requestId"
UPDATE = "mutation($input: UpdateDatasetInput!) { updateDataset(input: $input) { __typename } }"


async def events(client: Client, selection: str = FIELDS, **criteria: Any) -> list[dict[str, Any]]:
    """The events that a client sees, the oldest first."""
    query = f"query($filter: AuditEventFilter) {{ auditEvents(first: 100, filter: $filter) {{ totalCount edges {{ node {{ {selection} }} }} }} }}"
    page = await client.one(query, filter=criteria)
    assert page["totalCount"] == len(page["edges"])
    return [edge["node"] for edge in page["edges"]][::-1]


async def send(client: Client, query: str, **variables: Any) -> str:
    """Send a mutation; return the id of the request."""
    response = await client.http.post("/graphql", json={"query": query, "variables": variables})
    assert "errors" not in response.json(), response.text
    return response.headers["x-request-id"]


async def test_a_change_has_its_actor_its_origin_and_the_values_that_changed(ada: Client, sign_in: SignIn) -> None:
    session = await sign_in("ada")
    (current,) = await session.one("{ sessions { id } }")
    user = (await ada.one("{ viewer { id } }"))["id"]
    dataset = await session.create_dataset("wine", description="red")
    updated = await send(session, UPDATE, input={"id": dataset, "name": "wines", "description": "red", "metadata": {"a": 1}})
    deleted = await send(session, "mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=dataset)
    login, create, update, delete = await events(ada)
    common = {
        "actor": {"accountId": user, "username": "ada", "fullName": "Ada"},
        "credentialId": current["id"],
        "owner": {"username": "ada"},
        "origin": "API",
        "ipAddress": "127.0.0.1",
    }
    of_dataset = {**common, "subjectId": dataset, "subject": None}
    assert login | {"requestId": ""} == {
        **common,
        "action": "login",
        "subjectId": current["id"],
        "subject": {"id": current["id"]},
        "before": None,
        "after": {"method": "PASSWORD"},
        "requestId": "",
    }
    created = {"name": "wine", "description": "red", "modality": "TABULAR", "source": "UPLOAD", "metadata": {}}
    assert create["after"] == {**created, "problemType": None, "targetColumn": None, "schemaPolicy": "WARN"}
    assert (create["action"], create["before"], create["subjectId"]) == ("create_dataset", None, dataset)
    assert update == {
        **of_dataset,
        "action": "update_dataset",
        "before": {"name": "wine", "metadata": {}},
        "after": {"name": "wines", "metadata": {"a": 1}},
        "requestId": updated,
    }
    deleted_at = delete["after"].pop("deletedAt")
    assert deleted_at.startswith("20")
    assert delete == {**of_dataset, "action": "delete_dataset", "before": {"deletedAt": None}, "after": {}, "requestId": deleted}


async def test_an_owner_sees_what_others_did_and_an_actor_what_they_did(
    ada: Client, bob: Client, admin: Client, make_client: ClientFactory, database: Database
) -> None:
    boss = await make_client("boss", UserRole.ADMIN)
    dataset = await ada.create_dataset("wine")
    key = (await database.rows(text("SELECT k.id FROM api_keys k JOIN users u ON u.id = k.user_id WHERE username = 'boss'")))[0].id
    await send(boss, UPDATE, input={"id": dataset, "name": "wines"})
    names = "id action actor { username } owner { username } credentialId subject { id }"
    created, renamed = await events(ada, names)
    assert (created["actor"], renamed["actor"]) == ({"username": "ada"}, {"username": "boss"})
    assert renamed["credentialId"] == f"apikey_{key.hex}"
    assert renamed["subject"] == {"id": dataset}
    assert await events(admin, names) == [created, renamed]
    async with database.work(SYSTEM) as work:
        await accounts.set_role(work, "boss@example.org", UserRole.MEMBER)
    await boss.create_dataset("mine")
    assert [(event["action"], event["owner"], event["subject"]) for event in await events(boss, names)] == [
        ("update_dataset", {"username": "ada"}, None),  # the actor still sees the event, and not what is Ada's
        ("create_dataset", {"username": "boss"}, (await events(boss, names))[-1]["subject"]),
    ]
    look_up = "query($ids: [ID!]!) { nodes(ids: $ids) { id } }"
    ids = [created["id"], renamed["id"]]
    assert await boss.one(look_up, ids=ids) == [None, {"id": renamed["id"]}]
    assert await events(bob) == []
    assert await bob.one(look_up, ids=ids) == [None, None]


async def test_pages_join_what_is_owned_with_what_was_done(ada: Client, make_client: ClientFactory, database: Database) -> None:
    boss = await make_client("boss", UserRole.ADMIN)
    dataset = await ada.create_dataset("wine")
    for number in range(3):
        await boss.create_dataset(f"mine {number}")
        await send(boss, UPDATE, input={"id": dataset, "name": f"wine {number}"})
    async with database.work(SYSTEM) as work:
        await accounts.set_role(work, "boss@example.org", UserRole.MEMBER)
    query = (
        "query($after: String) { auditEvents(first: 2, after: $after) { pageInfo { endCursor hasNextPage } edges { node { action } } } }"
    )
    actions: list[str] = []
    after, has_next = None, True
    while has_next:
        page = await boss.one(query, after=after)
        actions += [edge["node"]["action"] for edge in page["edges"]]
        after, has_next = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
    assert actions == ["update_dataset", "create_dataset"] * 3


async def test_what_an_operator_does_has_no_actor(ada: Client, admin: Client) -> None:
    user = (await ada.one("{ viewer { id } }"))["id"]
    commands = [
        ("user", "role", ADA, "viewer"),
        ("user", "disable", ADA),
        ("user", "enable", ADA),
        ("credits", "grant", ADA, "5", "--note", "a start"),
    ]
    for command in commands:
        assert (await trellis(*command)).returncode == 0
    expected = [
        ("administer_user", {"role": "MEMBER"}, {"role": "VIEWER"}),
        ("administer_user", {"isActive": True}, {"isActive": False}),
        ("administer_user", {"isActive": False}, {"isActive": True}),
        ("grant_credits", {"creditBalance": 0}, {"kind": "PURCHASE", "amount": 5, "note": "a start", "creditBalance": 5}),
    ]
    common = {"actor": None, "credentialId": None, "owner": {"username": "ada"}, "subjectId": user, "subject": {"id": user}}
    without = {"origin": "COMMAND_LINE", "ipAddress": None, "requestId": None}
    assert await events(ada) == [
        {"action": action, "before": before, "after": after, **common, **without} for action, before, after in expected
    ]
    assert [event["action"] for event in await events(admin, "action")] == [action for action, _, _ in expected]


async def test_secrets_are_in_no_event(ada: Client, sign_in: SignIn, database: Database) -> None:
    await sign_in("ada")
    secrets = [PASSWORD, PASSWORD_HASH, "another password 5"]
    added = await trellis("user", "add", "eve@example.org", "--username", "eve", "--password", stdin="another password 5\n")
    token = await trellis("user", "token", ADA, "--name", "laptop")
    assert (await trellis("user", "set-password", ADA, stdin="another password 5\n")).returncode == 0
    secrets += [added.stdout.strip(), token.stdout.strip(), hashlib.sha256(token.stdout.strip().encode()).hexdigest()]
    rows = await database.rows(select(AuditEvent.__table__).order_by(AuditEvent.id))
    assert [row.action for row in rows] == ["login", "add_user", "create_api_key", "set_password"]
    assert [secret for secret in secrets if secret in str(rows)] == []
    assert rows[1].after == {"email": "eve@example.org", "username": "eve", "fullName": None, "role": "MEMBER", "tier": "FREE"}


def test_every_column_with_a_secret_is_declared() -> None:
    """Hashes of files, definitions, requests and seals are no secrets, nor is what tells of a token or a password without it."""
    harmless = {"sha256", "preview_sha256", "archive_sha256", "request_sha256", "architecture_hash"}
    harmless |= {"password_changed_at", "token_id", "token_expires_at", "error_code", "previous_secret_until"}
    words = ("password", "token", "secret", "hash", "sha256", "code")
    named = {
        column.name
        for table in Table.metadata.sorted_tables
        for column in table.c
        if isinstance(column.type, LargeBinary) or any(word in column.name for word in words)
    }
    assert named - harmless == set(SECRET_COLUMNS)


async def test_of_a_large_value_the_size_and_the_hash_are_recorded(ada: Client) -> None:
    description = "x" * MAX_VALUE_BYTES
    await ada.create_dataset("wine", description=description)
    (event,) = await events(ada, "after")
    encoded = orjson.dumps(description)
    assert event["after"]["description"] == {"bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}


async def test_a_mutation_over_a_websocket_has_its_request_too(ada: Client) -> None:
    query = 'mutation { createDataset(input: {name: "wine"}) { __typename } }'
    async with ada.socket() as (send_message, receive):
        await send_message({"id": "1", "type": "subscribe", "payload": {"query": query}})
        assert (await receive())["payload"]["data"] == {"createDataset": {"__typename": "CreateDatasetPayload"}}
    (event,) = await events(ada, "action ipAddress requestId actor { username }")
    assert len(event.pop("requestId")) == 32
    assert event == {"action": "create_dataset", "ipAddress": "127.0.0.1", "actor": {"username": "ada"}}
