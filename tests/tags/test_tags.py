"""Things are found by the tags that their account puts on them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from db.core.viewer import UserRole
from db.core.work import Database
from db.services.maintenance.context import MaintenanceContext
from db.services.maintenance.counters import reconcile_counters
from db.settings import state_settings
from tests.accounts.test_team_ownership import make_team
from tests.accounts.test_teams import join
from tests.client import Client, GraphQLErrors
from tests.factories import platform

PROBLEM = "... on Problem { code message } ... on InvalidInput { issues { path } }"
CREATE = f"""mutation($input: CreateTagInput!) {{ createTag(input: $input) {{
  ... on CreateTagPayload {{ tag {{ id name slug color owner {{ username }} }} }} {PROBLEM} }} }}"""
UPDATE = f"mutation($input: UpdateTagInput!) {{ updateTag(input: $input) {{ ... on UpdateTagPayload {{ tag {{ name slug color }} }} {PROBLEM} }} }}"
DELETE = "mutation($input: DeleteTagInput!) { deleteTag(input: $input) { ... on DeleteTagPayload { deletedId } ... on Problem { code } } }"
TAG = f"""mutation($input: TagInput!) {{ tag(input: $input) {{
  ... on TagPayload {{ subjects {{ __typename tags {{ name }} ... on Node {{ id }} }} tags {{ id name }} }} {PROBLEM} }} }}"""
UNTAG = f"mutation($input: UntagInput!) {{ untag(input: $input) {{ ... on UntagPayload {{ subjects {{ tags {{ name }} }} }} {PROBLEM} }} }}"
LISTS = {
    "datasets": "DatasetFilter",
    "pipelines": "PipelineFilter",
    "models": "ModelFilter",
    "experiments": "ExperimentFilter",
    "runs": "RunFilter",
    "studies": "StudyFilter",
}


async def counts(client: Client) -> dict[str, int]:
    page = await client.one("{ tags(first: 100, orderBy: {field: NAME, direction: ASC}) { edges { node { name usageCount } } } }")
    return {edge["node"]["name"]: int(edge["node"]["usageCount"]) for edge in page["edges"]}


async def ids_of(client: Client, field: str) -> list[str]:
    return [edge["node"]["id"] for edge in (await client.one(f"{{ {field} {{ edges {{ node {{ id }} }} }} }}"))["edges"]]


async def tagged_with(client: Client, field: str, *tags: str) -> list[str]:
    query = f"query($filter: {LISTS[field]}) {{ {field}(filter: $filter) {{ totalCount edges {{ node {{ id }} }} }} }}"
    page = await client.one(query, filter={"tags": list(tags)})
    assert page["totalCount"] == len(page["edges"])
    return [edge["node"]["id"] for edge in page["edges"]]


async def test_a_name_and_a_slug_can_be_used_once_per_account(ada: Client, bob: Client) -> None:
    first = (await ada.one(CREATE, input={"name": " Baseline É1 ", "color": "#ABCDEF"}))["tag"]
    assert {**first, "id": None} == {
        "id": None,
        "name": "Baseline É1",
        "slug": "baseline-e1",
        "color": "#abcdef",
        "owner": {"username": "ada"},
    }
    taken = await ada.one(CREATE, input={"name": "baseline é1"})
    assert (taken["code"], "a tag named 'baseline é1'" in taken["message"]) == ("NAME_TAKEN", True)
    assert [(await client.one(CREATE, input={"name": "C"}))["tag"]["slug"] for client in (ada, bob)] == ["c", "c"]
    slugs = [(await ada.one(CREATE, input={"name": name}))["tag"]["slug"] for name in ("C++", "c#", "数据", "!!")]
    assert slugs == ["c-2", "c-3", "数据", "tag"]
    assert await ada.one(UPDATE, input={"id": first["id"], "name": "C--"}) == {"tag": {"name": "C--", "slug": "c-4", "color": "#abcdef"}}
    assert (await ada.one(UPDATE, input={"id": first["id"], "name": "c"}))["code"] == "NAME_TAKEN"
    assert (await bob.one(UPDATE, input={"id": first["id"], "name": "mine"}))["code"] == "NOT_FOUND"
    assert await counts(ada) == dict.fromkeys(("!!", "C", "C++", "c#", "C--", "数据"), 0)
    assert await counts(bob) == {"C": 0}


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101, f"tag_{'0' * 32}"])
async def test_a_name_that_cannot_be_kept_is_refused(ada: Client, name: str) -> None:
    assert (await ada.one(CREATE, input={"name": name}))["issues"] == [{"path": ["name"]}]
    dataset = await ada.create_dataset("d")
    assert (await ada.one(TAG, input={"id": dataset, "tags": ["ok", name]}))["code"] in {"INVALID_INPUT", "NOT_FOUND"}
    assert await counts(ada) == {}


@pytest.fixture
async def things(ada: Client, database: Database) -> dict[str, list[str]]:
    """Ids of two things of each kind of Ada's, newest first, without tags."""
    await platform.fill(database, "ada", 2)
    async with database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM tags"))
    return {field: await ids_of(ada, field) for field in LISTS}


async def test_tags_are_put_on_things_of_all_kinds_and_found_by(ada: Client, things: dict[str, list[str]]) -> None:
    firsts = [ids[0] for ids in things.values()]
    answer = await ada.one(TAG, input={"ids": firsts, "tags": ["Good", "paper"]})
    kinds = ["Dataset", "Pipeline", "Model", "Experiment", "Run", "Study"]
    both = [{"name": "Good"}, {"name": "paper"}]
    assert answer["subjects"] == [{"__typename": kind, "id": id_, "tags": both} for kind, id_ in zip(kinds, firsts, strict=True)]
    tags = {tag["name"]: tag["id"] for tag in answer["tags"]}
    await ada.one(TAG, input={"id": things["runs"][1], "tags": [tags["Good"], "GOOD"]})
    assert await counts(ada) == {"Good": 7, "paper": 6}
    for field, ids in things.items():
        assert await tagged_with(ada, field, tags["Good"]) == (ids if field == "runs" else ids[:1])
        assert await tagged_with(ada, field, tags["Good"], tags["paper"]) == ids[:1]
        assert await tagged_with(ada, field, tags["Good"], f"tag_{'0' * 32}") == []
        assert await tagged_with(ada, field) == ids
    assert await ada.one(UNTAG, input={"ids": firsts, "tags": ["good", "unknown"]}) == {"subjects": [{"tags": [{"name": "paper"}]}] * 6}
    assert await counts(ada) == {"Good": 1, "paper": 6}
    assert await ada.one(DELETE, input={"id": tags["paper"]}) == {"deletedId": tags["paper"]}
    assert await counts(ada) == {"Good": 1}
    assert await tagged_with(ada, "runs", tags["paper"]) == []
    with pytest.raises(GraphQLErrors, match="`tags` has 11 entries; at most 10") as refused:
        await tagged_with(ada, "runs", *[tags["Good"]] * 11)
    assert refused.value.codes == ["BAD_USER_INPUT"]


async def test_all_things_get_the_tags_or_none_does(ada: Client, bob: Client, things: dict[str, list[str]]) -> None:
    stranger = await bob.create_dataset("b")
    mine = things["datasets"][0]
    for input_, code in (
        ({"ids": [mine, stranger], "tags": ["t"]}, "NOT_FOUND"),
        ({"ids": [mine, f"job_{'0' * 32}"], "tags": ["t"]}, "NOT_FOUND"),
        ({"id": mine, "tags": ["t", f"tag_{'0' * 32}"]}, "NOT_FOUND"),
        ({"id": mine, "tags": [f"t{number}" for number in range(51)]}, "INVALID_INPUT"),
        ({"id": mine, "tags": []}, "INVALID_INPUT"),
        ({"tags": ["t"]}, "INVALID_INPUT"),
    ):
        answer = await ada.one(TAG, input=input_)
        assert answer["code"] == code, input_
        assert await counts(ada) == {}
    await ada.one(TAG, input={"id": mine, "tags": [f"t{number}" for number in range(49)]})
    too_many = await ada.one(TAG, input={"ids": [things["runs"][0], mine], "tags": ["t0", "a", "b"]})
    assert too_many["message"].startswith(f"tags: {mine} would have 51 tags; a thing has at most 50.")
    assert sum((await counts(ada)).values()) == 49


async def test_tags_of_a_stranger_are_not_found(ada: Client, bob: Client, things: dict[str, list[str]]) -> None:
    tag = (await ada.one(TAG, input={"id": things["runs"][0], "tags": ["secret"]}))["tags"][0]["id"]
    dataset = await bob.create_dataset("b")
    assert await bob.one("query($id: ID!) { tag(id: $id) { name } }", id=tag) is None
    assert (await bob.one(TAG, input={"id": dataset, "tags": [tag]}))["code"] == "NOT_FOUND"
    assert (await bob.one(UNTAG, input={"id": things["runs"][0], "tags": ["secret"]}))["code"] == "NOT_FOUND"
    assert (await bob.one(DELETE, input={"id": tag}))["code"] == "NOT_FOUND"
    assert await tagged_with(bob, "runs", tag) == []
    assert await counts(ada) == {"secret": 1}


async def test_what_is_deleted_and_restored_does_and_does_not_count(ada: Client, things: dict[str, list[str]], database: Database) -> None:
    experiment = (await ada.one("query($id: ID!) { run(id: $id) { experiment { id } } }", id=things["runs"][0]))["experiment"]["id"]
    await ada.one(TAG, input={"ids": [things["datasets"][0], experiment, things["runs"][0]], "tags": ["t"]})
    seen: list[int] = []
    for statement in (
        "UPDATE experiments SET deleted_at = now()",
        "UPDATE datasets SET deleted_at = now()",
        "UPDATE experiments SET deleted_at = NULL",
        "UPDATE datasets SET name = id::text, deleted_at = NULL",
        "UPDATE experiments SET updated_at = now()",
    ):
        async with database.engine.begin() as connection:
            await connection.execute(text(statement))
        seen.append((await counts(ada))["t"])
    assert seen == [1, 0, 2, 3, 3]
    async with database.engine.begin() as connection:
        await connection.execute(text("DELETE FROM trials"))
        await connection.execute(text("DELETE FROM explanations"))
        await connection.execute(text("UPDATE model_versions SET run_id = NULL"))
        await connection.execute(text("DELETE FROM runs"))
    assert await counts(ada) == {"t": 2}, "what is purged does not count"
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE tags SET usage_count = 7"))
    context = MaintenanceContext(database, None, state_settings())  # pyright: ignore[reportArgumentType] - the task touches no object
    assert await reconcile_counters(context) >= 1
    assert await counts(ada) == {"t": 2}


async def test_tags_made_at_the_same_time_are_made_once(ada: Client) -> None:
    datasets = [await ada.create_dataset(f"d{number}") for number in range(4)]
    await asyncio.gather(*(ada.one(TAG, input={"id": dataset, "tags": ["A+", "a", "B"]}) for dataset in datasets))
    assert await counts(ada) == {"a": 4, "A+": 4, "B": 4}


async def test_a_teams_things_have_the_teams_tags(ada: Client, bob: Client, things: dict[str, list[str]], database: Database) -> None:
    team = await make_team(database, "ada")
    shared = await ada.create_dataset("shared", ownerId=team)
    await ada.one(TAG, input={"id": things["runs"][0], "tags": ["t"]})
    answer = await ada.one(TAG, input={"id": shared, "tags": ["t"]})
    assert (await ada.one(TAG, input={"ids": [shared, things["runs"][0]], "tags": ["t"]}))["issues"] == [{"path": ["ids"]}]
    listed = await ada.one("{ tags(orderBy: {field: CREATED_AT}) { edges { node { id usageCount owner { username } } } } }")
    assert [edge["node"]["owner"]["username"] for edge in listed["edges"]] == ["bearings", "ada"]
    assert listed["edges"][0]["node"]["id"] == answer["tags"][0]["id"]
    await join(database, team, "bob", UserRole.VIEWER)
    with pytest.raises(GraphQLErrors, match="Your role in this team, VIEWER") as refused:
        await bob.one(TAG, input={"id": shared, "tags": ["t"]})
    assert refused.value.codes == ["FORBIDDEN"]
    assert [tag["name"] for tag in (await bob.one("query($id: ID!) { dataset(id: $id) { tags { name } } }", id=shared))["tags"]] == ["t"]


async def test_tags_are_ordered_by_how_many_things_have_them(ada: Client) -> None:
    datasets = [await ada.create_dataset(f"d{number}") for number in range(3)]
    for number, name in enumerate(("one", "two", "three"), 1):
        await ada.one(TAG, input={"ids": datasets[:number], "tags": [name]})
    order: dict[str, Any] = {"field": "USAGE_COUNT", "direction": "DESC"}
    page = await ada.one(
        'query($o: TagOrder) { tags(orderBy: $o, filter: {name: {contains: "t"}}) { edges { node { name usageCount } } } }', o=order
    )
    assert [edge["node"] for edge in page["edges"]] == [{"name": "three", "usageCount": 3}, {"name": "two", "usageCount": 2}]
