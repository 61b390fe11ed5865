"""Each member of each filter narrows its list, and the count with it, to exactly what fits."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from db.core.work import Database
from tests.client import Client
from tests.factories import platform

ALL = 3
LONG_AGO, FAR_OFF = "2000-01-01T00:00:00Z", "2100-01-01T00:00:00Z"

# (list, filter, how many fit). {dataset}, {pipeline}, {experiment} and {owner} stand for ids that one row in three, or every row, has.
CASES: list[tuple[str, dict[str, Any], int]] = [
    ("pipelines", {"name": {"eq": "PIPELINE 2"}}, 1),
    ("pipelines", {"name": {"startsWith": "pipe"}}, ALL),
    ("pipelines", {"modality": ["TABULAR"]}, ALL),
    ("pipelines", {"modality": ["AUDIO", "TEXT"]}, 0),
    ("pipelines", {"status": ["VALIDATED"]}, 2),
    ("pipelines", {"status": ["DRAFT", "ARCHIVED"]}, 1),
    ("pipelines", {"isTemplate": False}, ALL),
    ("pipelines", {"isTemplate": True}, 0),
    ("pipelines", {"createdAt": {"gte": LONG_AGO, "lt": FAR_OFF}}, ALL),
    ("pipelines", {"createdAt": {"gte": FAR_OFF}}, 0),
    ("pipelines", {"ownerId": "{owner}"}, ALL),
    ("jobs", {"kind": ["TRAIN"]}, ALL),
    ("jobs", {"kind": ["INGEST"]}, 0),
    ("jobs", {"status": ["COMPLETED", "FAILED"]}, ALL),
    ("jobs", {"status": ["RUNNING"]}, 0),
    ("jobs", {"queue": ["tabular", "default"]}, ALL),
    ("jobs", {"queue": ["image"]}, 0),
    ("jobs", {"datasetId": "{dataset}"}, 1),
    ("jobs", {"pipelineId": "{pipeline}"}, 1),
    ("jobs", {"datasetId": "{dataset}", "queue": ["image"]}, 0),
    ("jobs", {"createdAt": {"lt": LONG_AGO}}, 0),
    ("jobs", {"ownerId": "{owner}"}, ALL),
    ("models", {"name": {"contains": "DEL 3"}}, 1),
    ("models", {"problemType": ["CLASSIFICATION"]}, ALL),
    ("models", {"problemType": ["REGRESSION"]}, 0),
    ("models", {"alias": "production"}, ALL),
    ("models", {"createdAt": {"lt": FAR_OFF}}, ALL),
    ("models", {"ownerId": "{owner}"}, ALL),
    ("experiments", {"name": {"in": ["experiment 1", "EXPERIMENT 3", "nothing"]}}, 2),
    ("experiments", {"createdAt": {"gte": FAR_OFF}}, 0),
    ("experiments", {"ownerId": "{owner}"}, ALL),
    ("runs", {"experimentId": "{experiment}"}, 1),
    ("runs", {"status": ["COMPLETED"]}, ALL),
    ("runs", {"createdAt": {"gte": LONG_AGO}}, ALL),
    ("runs", {"ownerId": "{owner}"}, ALL),
]


@pytest.mark.parametrize(("name", "criteria", "fitting"), CASES, ids=str)
async def test_a_filter_keeps_what_fits(
    ada: Client, bob: Client, database: Database, name: str, criteria: dict[str, Any], fitting: int
) -> None:
    await platform.fill(database, "ada", ALL)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE pipelines SET status = 'draft' WHERE name = 'pipeline 1'"))
    first = await ada.execute(
        "{ datasets(first: 1) { edges { node { id owner { id } } } } pipelines(first: 1) { edges { node { id } } }"
        " experiments(first: 1) { edges { node { id } } } }"
    )
    ids = {kind.removesuffix("s"): page["edges"][0]["node"]["id"] for kind, page in first.items()}
    ids["owner"] = first["datasets"]["edges"][0]["node"]["owner"]["id"]
    criteria = {key: value.format(**ids) if isinstance(value, str) else value for key, value in criteria.items()}
    kind = f"{name.removesuffix('s').capitalize()}Filter"
    query = f"query($filter: {kind}) {{ {name}(filter: $filter) {{ totalCount edges {{ node {{ id }} }} }} }}"
    result = await ada.one(query, filter=criteria)
    assert (result["totalCount"], len({edge["node"]["id"] for edge in result["edges"]})) == (fitting, fitting)
    assert await bob.one(query, filter=criteria) == {"totalCount": 0, "edges": []}, "a filter never widens what a stranger sees"
