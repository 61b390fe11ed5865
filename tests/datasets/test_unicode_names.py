"""Names are text of any script: joiners belong to words and emoji, and the composed and the decomposed spelling are one name."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from tests.client import Client

CREATE = """mutation($input: CreateDatasetInput!) { createDataset(input: $input) {
  ... on CreateDatasetPayload { dataset { name } } ... on Problem { code message } ... on NameTaken { name } } }"""
CAFE = unicodedata.normalize("NFC", "café")
DECOMPOSED = unicodedata.normalize("NFD", CAFE)


@pytest.mark.parametrize(
    "name",
    [
        "می\u200cخواهم",  # Persian: the joiner separates parts of a word
        "क्\u200dष",  # Hindi
        "👩\u200d👩\u200d👧",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
        "東京\u3000大阪",
    ],
)
async def test_characters_that_belong_to_words_are_taken(ada: Client, name: str) -> None:
    assert (await ada.one(CREATE, input={"name": name}))["dataset"]["name"] == name


@pytest.mark.parametrize("name", ["a\u202eb", "a\nb", "a\u2028b", "a\x7fb", "\u200d"])
async def test_characters_that_control_text_are_refused(ada: Client, name: str) -> None:
    assert (await ada.one(CREATE, input={"name": name}))["code"] == "INVALID_INPUT"


async def test_a_name_of_marks_in_the_wrong_order_is_not_put_in_order(ada: Client) -> None:
    """It would take minutes, in which the process answers nobody: each mark is moved past all others."""
    name = "a" + "\u0315" * 120_000 + "\u0323" * 120_000
    assert (await ada.one(CREATE, input={"name": name}))["code"] == "INVALID_INPUT"
    query = "query($filter: DatasetFilter) { datasets(filter: $filter) { totalCount } }"
    for condition in ({"eq": name}, {"in": [name]}):
        assert (await ada.one(query, filter={"name": condition}))["totalCount"] == 0
    rows = [{name: 1}]
    predict = "mutation($input: PredictInput!) { predict(input: $input) { ... on Problem { code } } }"
    assert (await ada.one(predict, input={"modelVersionId": f"mversion_{'0' * 32}", "rows": rows}))["code"] == "NOT_FOUND"


async def test_composed_and_decomposed_spellings_are_one_name(ada: Client) -> None:
    assert (await ada.one(CREATE, input={"name": DECOMPOSED}))["dataset"]["name"] == CAFE
    assert (await ada.one(CREATE, input={"name": CAFE}))["code"] == "NAME_TAKEN"
    query = "query($filter: DatasetFilter) { datasets(filter: $filter) { edges { node { name } } } }"
    for spelling in (CAFE, DECOMPOSED):
        for condition in ({"eq": spelling}, {"contains": spelling[1:]}, {"startsWith": spelling}, {"in": [spelling]}):
            edges = (await ada.one(query, filter={"name": condition}))["edges"]
            assert [edge["node"]["name"] for edge in edges] == [CAFE], condition


@pytest.mark.exhaustive
async def test_a_column_is_found_by_either_spelling(ada: Client, worker: object) -> None:
    rows = "".join(f"{row},{row % 7},{'yes' if row % 2 else 'no'}\n" for row in range(60))
    version = await ada.ingest("d", f"{DECOMPOSED},b,y\n{rows}", targetColumn="y")
    columns = await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { columns { name } issues { code } } } }", id=version)
    assert [column["name"] for column in columns["columns"]] == [CAFE, "b", "y"]
    for number, spelling in enumerate((CAFE, DECOMPOSED)):
        steps: list[tuple[str, str, dict[str, Any]]] = [("data", "dataset", {}), ("drop", "drop_columns", {"columns": [spelling]})]
        pipeline = (await ada.create_pipeline(f"p{number}", *steps))["pipeline"]["id"]
        job = (await ada.run_pipeline(pipeline, version))["job"]["id"]
        assert (await ada.wait(job))["status"] == "COMPLETED"


async def test_two_columns_that_differ_by_their_spelling_are_told_apart(ada: Client, worker: object) -> None:
    version = await ada.ingest("d", f"{CAFE},{DECOMPOSED}\n1,2\n3,4\n")
    read = await ada.one(
        "query($id: ID!) { node(id: $id) { ... on DatasetVersion { columns { name } issues { code column } } } }", id=version
    )
    assert [column["name"] for column in read["columns"]] == [CAFE, f"{CAFE}_2"]
    assert read["issues"] == [{"code": "DUPLICATE_COLUMN_NAME", "column": f"{CAFE}_2"}]
