"""Datasets are created, updated, listed and deleted."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.tables import Dataset
from db.tables.datasets import Modality
from tests.client import Client, GraphQLErrors

CREATE = """mutation($input: CreateDatasetInput!) { createDataset(input: $input) {
  ... on CreateDatasetPayload { dataset { id name description modality problemType targetColumn source metadata owner { username } deletedAt } }
  ... on Problem { code message } ... on NameTaken { name } ... on InvalidInput { issues { path message } } } }"""
UPDATE = """mutation($input: UpdateDatasetInput!) { updateDataset(input: $input) {
  ... on UpdateDatasetPayload { dataset { id name description problemType targetColumn metadata } }
  ... on Problem { code message } ... on NotFound { id } ... on NameTaken { name } ... on InvalidInput { issues { path message } } } }"""
DELETE = """mutation($id: ID!) { deleteDataset(input: {id: $id}) {
  ... on DeleteDatasetPayload { deletedId } ... on Problem { code message } ... on NotFound { id } ... on WrongState { state } } }"""
NAMES = """query($first: Int, $after: String, $last: Int, $before: String, $filter: DatasetFilter, $orderBy: DatasetOrder) {
  datasets(first: $first, after: $after, last: $last, before: $before, filter: $filter, orderBy: $orderBy) {
    totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { name } } } }"""


async def dataset_names(client: Client, **arguments: Any) -> list[str]:
    return [edge["node"]["name"] for edge in (await client.one(NAMES, **arguments))["edges"]]


async def test_a_dataset_is_what_was_asked_for(ada: Client) -> None:
    answer = await ada.one(
        CREATE,
        input={
            "name": "  wine ",
            "description": "red",
            "problemType": "CLASSIFICATION",
            "targetColumn": "class",
            "metadata": {"a": [1, None]},
        },
    )
    dataset = answer["dataset"]
    assert dataset.pop("id").startswith("dataset_")
    assert dataset == {
        "name": "wine",
        "description": "red",
        "modality": "TABULAR",
        "problemType": "CLASSIFICATION",
        "targetColumn": "class",
        "source": "UPLOAD",
        "metadata": {"a": [1, None]},
        "owner": {"username": "ada"},
        "deletedAt": None,
    }


async def test_a_name_can_be_used_once_per_owner_whatever_the_case(ada: Client, bob: Client) -> None:
    await ada.create_dataset("wine")
    taken = await ada.one(CREATE, input={"name": "WINE"})
    assert (taken["code"], taken["name"]) == ("NAME_TAKEN", "WINE")
    await bob.create_dataset("wine")
    assert await dataset_names(ada) == ["wine"]


async def test_a_deleted_dataset_leaves_lists_and_lookups_and_frees_its_name(ada: Client) -> None:
    first = await ada.create_dataset("wine")
    assert await ada.one(DELETE, id=first) == {"deletedId": first}
    assert await dataset_names(ada) == []
    assert await ada.execute("query($id: ID!) { dataset(id: $id) { id } node(id: $id) { id } }", id=first) == {
        "dataset": None,
        "node": None,
    }
    assert (await ada.one(DELETE, id=first))["code"] == "NOT_FOUND"
    await ada.create_dataset("wine")


async def test_an_omitted_field_keeps_its_value_and_null_clears_it(ada: Client) -> None:
    dataset = await ada.create_dataset("wine", description="red", targetColumn="class", problemType="CLASSIFICATION", metadata={"a": 1})
    changed = (await ada.one(UPDATE, input={"id": dataset, "description": None, "name": "port"}))["dataset"]
    assert changed == {
        "id": dataset,
        "name": "port",
        "description": None,
        "problemType": "CLASSIFICATION",
        "targetColumn": "class",
        "metadata": {"a": 1},
    }
    refused = await ada.one(UPDATE, input={"id": dataset, "name": None})
    assert refused["code"] == "INVALID_INPUT"
    assert [issue["path"] for issue in refused["issues"]] == [["name"]]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": "   "}, ["name"]),
        ({"name": "x" * 201}, ["name"]),
        ({"name": "a\nb"}, ["name"]),
        ({"name": "ok", "description": "d" * 10_001}, ["description"]),
        ({"name": "ok", "metadata": [1]}, ["metadata"]),
        ({"name": "ok", "metadata": {"a": "x" * 70_000}}, ["metadata"]),
        ({"name": "ok", "description": "nul \x00"}, ["description"]),
    ],
)
async def test_bad_input_names_its_place_and_changes_nothing(ada: Client, fields: dict[str, Any], path: list[str]) -> None:
    refused = await ada.one(CREATE, input=fields)
    assert refused["code"] == "INVALID_INPUT"
    assert [issue["path"] for issue in refused["issues"]] == [path]
    assert await dataset_names(ada) == []


@pytest.mark.parametrize("modality", [modality.name for modality in Modality])
async def test_a_pipeline_of_every_kind_of_data_takes_the_steps_of_tables(ada: Client, modality: str) -> None:
    created = await ada.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {}), modality=modality)
    assert created["pipeline"]["status"] == "VALIDATED"


async def test_pages_go_forward_and_backward_without_repeat_or_gap(ada: Client) -> None:
    for number in range(7):
        await ada.create_dataset(f"d{number}")
    order = {"field": "NAME", "direction": "ASC"}
    first = await ada.one(NAMES, first=3, orderBy=order)
    assert [edge["node"]["name"] for edge in first["edges"]] == ["d0", "d1", "d2"]
    assert first["totalCount"] == 7
    assert first["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": first["edges"][0]["cursor"],
        "endCursor": first["edges"][2]["cursor"],
    }
    await ada.create_dataset("d00")  # sorts before the cursor: rows are neither repeated nor skipped
    second = await ada.one(NAMES, first=3, after=first["pageInfo"]["endCursor"], orderBy=order)
    assert [edge["node"]["name"] for edge in second["edges"]] == ["d3", "d4", "d5"]
    third = await ada.one(NAMES, first=3, after=second["pageInfo"]["endCursor"], orderBy=order)
    assert [edge["node"]["name"] for edge in third["edges"]] == ["d6"]
    assert third["pageInfo"]["hasNextPage"] is False
    back = await ada.one(NAMES, last=2, before=second["pageInfo"]["startCursor"], orderBy=order)
    assert [edge["node"]["name"] for edge in back["edges"]] == ["d1", "d2"]
    assert back["pageInfo"]["hasPreviousPage"] is True
    assert await dataset_names(ada, last=2, orderBy=order) == ["d5", "d6"]


async def test_the_newest_comes_first_by_default(ada: Client) -> None:
    for name in ("a", "b", "c"):
        await ada.create_dataset(name)
    assert await dataset_names(ada) == ["c", "b", "a"]
    assert await dataset_names(ada, orderBy={"field": "CREATED_AT", "direction": "ASC"}) == ["a", "b", "c"]


async def test_filters_narrow_the_list_and_its_count(ada: Client, database: Database) -> None:
    await ada.create_dataset("Red wine", problemType="CLASSIFICATION")
    text_dataset = await ada.create_dataset("white wine")
    async with database.work(SYSTEM) as work:  # no mutation creates one
        await work.run(update(Dataset).where(Dataset.id == UUID(text_dataset.removeprefix("dataset_"))).values(modality=Modality.TEXT))
    await ada.create_dataset("100% beer_")
    for criteria, expected in [
        ({"name": {"contains": "WINE"}}, ["white wine", "Red wine"]),
        ({"name": {"startsWith": "red"}}, ["Red wine"]),
        ({"name": {"eq": "red WINE"}}, ["Red wine"]),
        ({"name": {"in": ["white wine", "nothing"]}}, ["white wine"]),
        ({"name": {"contains": "0%"}}, ["100% beer_"]),
        ({"name": {"contains": "_"}}, ["100% beer_"]),
        ({"modality": ["TEXT"]}, ["white wine"]),
        ({"problemType": ["CLASSIFICATION"], "name": {"contains": "white"}}, []),
        ({"createdAt": {"lt": "2000-01-01T00:00:00Z"}}, []),
    ]:
        page = await ada.one(NAMES, filter=criteria)
        assert ([edge["node"]["name"] for edge in page["edges"]], page["totalCount"]) == (expected, len(expected)), criteria


@pytest.mark.parametrize(
    "arguments",
    [{"first": 101}, {"first": -1}, {"first": 1, "last": 1}, {"after": "nonsense"}, {"after": "WyJ4IiwxXQ"}, {"last": 1000}],
    ids=str,
)
async def test_a_page_that_cannot_be_is_refused(ada: Client, arguments: dict[str, Any]) -> None:
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one(NAMES, **arguments)
    assert refused.value.codes == ["BAD_USER_INPUT"]


async def test_numbers_of_any_size_come_back_as_they_were_given(ada: Client) -> None:
    numbers = {"great": 1e308, "twenty": 1e20, "least": 5e-324, "whole": 2**63 - 1, "below": -(2**63), "half": -2.5e19}
    answer = await ada.one(CREATE, input={"name": "d", "metadata": numbers})
    assert answer["dataset"]["metadata"] == numbers


@pytest.mark.parametrize(
    ("order", "place"),
    [
        (None, ["created_at.1", "2026-01-01T00:00:00+00:00", 5]),
        (None, ["created_at.1", "0001-01-01T00:00:00+14:00", "0" * 32]),
        (None, ["created_at.1", "9999-12-31T23:59:59-14:00", "0" * 32]),
        (None, ["created_at.1", "yesterday", "0" * 32]),
        (None, ["created_at.1", None, "0" * 32]),
        (None, ["created_at.1"]),
        (None, None),
        ("NAME", ["name.1", "\u0000", "0" * 32]),
        ("NAME", ["name.1", 5, "0" * 32]),
    ],
)
async def test_a_cursor_that_nobody_was_given_is_refused(ada: Client, order: str | None, place: object) -> None:
    forged = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one(NAMES, after=forged, orderBy=None if order is None else {"field": order})
    assert refused.value.codes == ["BAD_USER_INPUT"]


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("runs(orderBy: {by: {field: NUMBER}}, after: $after)", "number.1"),
        ("jobs(orderBy: {field: PRIORITY}, after: $after)", "priority.1"),
    ],
)
async def test_a_cursor_with_a_number_that_its_column_cannot_hold_is_refused(ada: Client, field: str, name: str) -> None:
    forged = base64.urlsafe_b64encode(json.dumps([name, 2**40, "0" * 32]).encode()).decode()
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one(f"query($after: String) {{ {field} {{ edges {{ cursor }} }} }}", after=forged)
    assert refused.value.codes == ["BAD_USER_INPUT"]


async def test_a_cursor_of_another_list_is_refused(ada: Client) -> None:
    await ada.create_dataset("a")
    cursor = (await ada.one(NAMES))["pageInfo"]["endCursor"]
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one("query($after: String) { pipelines(after: $after) { edges { cursor } } }", after=cursor)
    assert refused.value.codes == ["BAD_USER_INPUT"]
    assert "does not belong to this list in this order. Start again without a cursor." in str(refused.value)


async def test_a_cursor_of_an_earlier_release_names_no_list_and_goes_on(ada: Client) -> None:
    for name in ("a", "b"):
        await ada.create_dataset(name)
    cursor = (await ada.one(NAMES, first=1))["pageInfo"]["endCursor"]
    place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    assert place[3:] == ["datasets"]
    earlier = base64.urlsafe_b64encode(json.dumps(place[:3]).encode()).decode()
    assert [edge["node"]["name"] for edge in (await ada.one(NAMES, after=earlier))["edges"]] == ["a"]


async def test_a_cursor_of_another_order_is_refused(ada: Client) -> None:
    await ada.create_dataset("a")
    cursor = (await ada.one(NAMES))["pageInfo"]["endCursor"]
    with pytest.raises(GraphQLErrors) as refused:
        await ada.one(NAMES, after=cursor, orderBy={"field": "NAME"})
    assert refused.value.codes == ["BAD_USER_INPUT"]


async def test_what_is_not_yours_does_not_exist(ada: Client, bob: Client, admin: Client) -> None:
    dataset = await ada.create_dataset("secret")
    never = "dataset_" + "0" * 32
    for strange in (dataset, never):
        assert await bob.execute(
            "query($id: ID!) { dataset(id: $id) { id } node(id: $id) { id } nodes(ids: [$id]) { id } }", id=strange
        ) == {
            "dataset": None,
            "node": None,
            "nodes": [None],
        }
        changed = await bob.one(UPDATE, input={"id": strange, "name": "mine"})
        assert (changed["code"], changed["id"]) == ("NOT_FOUND", strange)
        assert changed["message"].replace(strange, "") == (await bob.one(DELETE, id=strange))["message"].replace(strange, "")
    assert await dataset_names(bob) == []
    assert await dataset_names(admin) == ["secret"]
    assert await dataset_names(ada) == ["secret"]


async def test_a_viewer_reads_and_writes_nothing(reader: Client) -> None:
    with pytest.raises(GraphQLErrors) as refused:
        await reader.one(CREATE, input={"name": "mine"})
    assert refused.value.codes == ["FORBIDDEN"]
    assert await dataset_names(reader) == []


async def test_nobody_sees_nothing(anonymous: Client) -> None:
    with pytest.raises(GraphQLErrors) as refused:
        await dataset_names(anonymous)
    assert refused.value.codes == ["UNAUTHENTICATED"]
