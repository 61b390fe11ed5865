"""What used a dataset is listed under it: the runs on its versions, the models trained on them and the pipelines that read them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client import Client

pytestmark = pytest.mark.exhaustive

WINE = "x,label\n" + "".join(f"{i},{'a' if i % 3 else 'b'}\n" for i in range(30))
REGIONS = "x,region\n" + "".join(f"{i},{'north' if i % 2 else 'south'}\n" for i in range(30))
TRAINING = (("data", "dataset", {}), ("train", "train_random_forest", {"target": "label", "n_estimators": 2}))
USES = """query($id: ID!) { node(id: $id) { ... on DatasetVersion { runs { totalCount edges { node { id } } } dataset {
  runs { totalCount edges { node { id } } } models { totalCount edges { node { name } } } pipelines { totalCount edges { node { name } } } } } } }"""


async def uses(client: Client, version: str) -> dict[str, list[str]] | None:
    """What is listed under a version, and under its dataset, in order; None for a version that is not there."""
    version_node = await client.one(USES, id=version)
    if version_node is None:
        return None
    lists: dict[str, Any] = {"runs of the version": version_node["runs"], **version_node["dataset"]}
    assert all(len(listed["edges"]) == listed["totalCount"] for listed in lists.values())
    return {name: [next(iter(edge["node"].values())) for edge in listed["edges"]] for name, listed in lists.items()}


async def finish(client: Client, started: dict[str, Any]) -> str:
    """Wait for a job to complete; return its id."""
    assert (await client.wait(started["job"]["id"]))["status"] == "COMPLETED"
    return started["job"]["id"]


async def test_what_used_a_dataset_is_listed_under_it(ada: Client, bob: Client, worker: object) -> None:
    wine, regions = await ada.ingest("wine", WINE), await ada.ingest("regions", REGIONS)
    training = (await ada.create_pipeline("training", *TRAINING))["pipeline"]["id"]
    first = await ada.run_pipeline(training, wine)
    job = await finish(ada, first)
    second = await ada.run_pipeline(training, wine, modelName="another")
    await finish(ada, second)
    join = ("join", "join_dataset", {"version": regions, "on": ["x"]})
    joining = (await ada.create_pipeline("joining", ("data", "dataset", {}), join))["pipeline"]["id"]
    await finish(ada, await ada.run_pipeline(joining, wine))
    retry = "mutation($id: ID!) { retryJob(input: {id: $id}) { ... on RetryJobPayload { job { id } run { id } } } }"
    third = await ada.one(retry, id=job)
    await finish(ada, third)

    runs = [started["run"]["id"] for started in (third, second, first)]
    assert await uses(ada, wine) == {
        "runs of the version": runs,
        "runs": runs,
        "models": ["another", "training"],
        "pipelines": ["joining", "training"],
    }
    assert await uses(ada, regions) == {"runs of the version": [], "runs": [], "models": [], "pipelines": ["joining"]}
    assert await uses(bob, wine) is None

    page = """query($id: ID!, $after: String) { node(id: $id) { ... on DatasetVersion { dataset { models(first: 1, after: $after) {
      pageInfo { hasNextPage endCursor } edges { node { name } } } } } } }"""
    before = (await ada.one(page, id=wine))["dataset"]["models"]
    after = (await ada.one(page, id=wine, after=before["pageInfo"]["endCursor"]))["dataset"]["models"]
    assert [before["edges"], after["edges"]] == [[{"node": {"name": "another"}}], [{"node": {"name": "training"}}]]
    assert [before["pageInfo"]["hasNextPage"], after["pageInfo"]["hasNextPage"]] == [True, False]

    of_snapshot = "query($id: ID!) { job(id: $id) { snapshot { jobs { totalCount edges { node { run { id } } } } } } }"
    jobs = (await ada.one(of_snapshot, id=job))["snapshot"]["jobs"]
    assert jobs == {"totalCount": 3, "edges": [{"node": {"run": {"id": run}}} for run in runs]}
