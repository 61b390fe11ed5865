"""A new user runs every document of every tutorial in order, with the variables that the tutorial says, and each does what it promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from graphql import OperationDefinitionNode, OperationType, parse

from tests.archives import image_of, zip_of
from tests.client import Client

TUTORIAL = "query($slug: String!) { tutorial(slug: $slug) { id steps { key document variables } } }"
COMPLETE = """mutation($id: ID!, $key: String!) { completeTutorialStep(input: {tutorialId: $id, stepKey: $key}) {
  ... on CompleteTutorialStepPayload { tutorial { progress { completedSteps totalSteps completedAt } } } } }"""
REFERENCE = "$."
SEED = 11


def filled(value: Any, results: dict[str, dict[str, Any]]) -> Any:
    """The variables as a client fills them, written from the description of `TutorialStep.variables` alone."""
    if isinstance(value, dict):
        return {name: filled(part, results) for name, part in value.items()}
    if isinstance(value, list):
        return [filled(part, results) for part in value]
    if not isinstance(value, str) or not value.startswith(REFERENCE):
        return value
    key, *path = value.removeprefix(REFERENCE).split(".")
    found: Any = results[key]
    for part in path:
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


async def run(client: Client, document: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The data of an operation, or of the last event of a subscription, which must end by itself."""
    (operation,) = (node for node in parse(document).definitions if isinstance(node, OperationDefinitionNode))
    if operation.operation is not OperationType.SUBSCRIPTION:
        data = await client.execute(document, **variables)
        problems = [value for value in data.values() if isinstance(value, dict) and ("code" in value or "issues" in value)]
        assert problems == [], document
        assert all(value is not None for value in data.values()), document
        return data
    last: dict[str, Any] = {}
    async for data in client.subscribe(document, **variables):
        last = data
    return last


async def follow(client: Client, slug: str) -> dict[str, dict[str, Any]]:
    """Go through a tutorial; return the results by step."""
    tutorial = await client.one(TUTORIAL, slug=slug)
    results: dict[str, dict[str, Any]] = {}
    progress: dict[str, Any] = {}
    for number, step in enumerate(tutorial["steps"], 1):
        if step["document"] is not None:
            results[step["key"]] = await run(client, step["document"], filled(step["variables"] or {}, results))
        elif slug == "images":
            await upload_images(client, results["dataset"]["createDataset"]["dataset"]["id"])
        progress = (await client.one(COMPLETE, id=tutorial["id"], key=step["key"]))["tutorial"]["progress"]
        assert progress["completedSteps"] == number
    assert progress["completedSteps"] == progress["totalSteps"]
    assert progress["completedAt"] is not None
    return results


async def upload_images(client: Client, dataset: str) -> None:
    """As the step says: an archive with two folders. Stripes run down in one and across in the other."""
    random = np.random.default_rng(SEED)
    files: dict[str, bytes] = {}
    for number in range(20):
        pixels = np.zeros((32, 32, 3), np.uint8)
        pixels[:, number % 4 :: 8] = 200
        pixels += random.integers(0, 30, pixels.shape, np.uint8)
        files[f"down/{number}.png"] = image_of(pixels)
        files[f"across/{number}.png"] = image_of(np.ascontiguousarray(pixels.transpose(1, 0, 2)))
    _, job = await client.upload(dataset, "images.zip", zip_of(files))
    assert (await client.wait(job))["status"] == "COMPLETED"


def metrics(results: dict[str, dict[str, Any]], step: str) -> dict[str, float]:
    return {metric["key"]: metric["last"] for metric in results[step]["run"]["metrics"]}


@pytest.mark.timeout(300)
async def test_the_first_model_is_trained_and_in_production(ada: Client, worker: object) -> None:
    results = await follow(ada, "first-model")
    assert results["wait-for-data"]["jobEvents"]["status"] == results["wait-for-model"]["jobEvents"]["status"] == "COMPLETED"
    assert results["look"]["node"]["rowCount"] == 400
    assert metrics(results, "result")["accuracy"] > 0.7
    promoted = results["promote"]["setModelAlias"]["modelVersion"]
    assert promoted["isProduction"]
    models = await ada.one('{ models(first: 5) { edges { node { alias(name: "production") { id } } } } }')
    assert [edge["node"]["alias"]["id"] for edge in models["edges"]] == [promoted["id"]]


async def test_a_run_of_own_code_is_tracked(ada: Client) -> None:
    results = await follow(ada, "tracking")
    (edge,) = results["list"]["experiment"]["runs"]["edges"]
    assert (edge["node"]["status"], edge["node"]["hyperparameters"]) == ("COMPLETED", {"learning_rate": 0.1, "layers": 3})
    assert [(metric["key"], metric["last"]) for metric in edge["node"]["metrics"]] == [("loss", 0.3)]


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_streams_go_on_after_a_cursor_and_have_all_points(ada: Client, worker: object) -> None:
    results = await follow(ada, "live-streams")
    assert results["continue"] == {}, "nothing comes after the last event"
    assert results["curve"]["run"]["status"] == "COMPLETED"
    assert any(len(series["points"]) > 5 for series in results["curve"]["run"]["metricHistory"])


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_pages_follow_each_other_and_the_lineage_leads_to_the_model(ada: Client, worker: object) -> None:
    results = await follow(ada, "pagination-and-lineage")
    pages = [results[key]["datasets"] for key in ("first-page", "next-page")]
    assert [edge["node"]["name"] for page in pages for edge in page["edges"]] == ["tutorial lineage", "tutorial lineage again"]
    assert [page["pageInfo"]["hasNextPage"] for page in pages] == [True, False]
    kinds = {node["kind"] for node in results["downstream"]["lineage"]["nodes"]}
    assert {"DATASET_VERSION", "MODEL_VERSION"} <= kinds


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_images_are_told_apart(ada: Client, worker: object) -> None:
    results = await follow(ada, "images")
    assert results["look"]["dataset"]["currentVersion"]["itemCount"] == 40
    assert metrics(results, "result")["accuracy"] > 0.8


@pytest.mark.exhaustive
@pytest.mark.timeout(600)
async def test_a_study_finds_a_model_to_keep(ada: Client, worker: object) -> None:
    results = await follow(ada, "study")
    study = results["best"]["study"]
    assert (study["status"], results["trials"]["studyTrials"]["study"]["trialsCompleted"]) == ("COMPLETED", 4)
    assert results["register"]["registerTrial"]["modelVersion"]["model"]["name"] == "tutorial study"
