"""Create a study, and wait until it has ended."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.client import Client

CREATE = """mutation($input: CreateStudyInput!) { createStudy(input: $input) { __typename ... on CreateStudyPayload { study { id status } }
  ... on Problem { code message } ... on InvalidInput { issues { path message } } } }"""
STUDY = """query($id: ID!) { study(id: $id) { id name kind method status reason seed isReproducible trialsTotal trialsCompleted trialsPruned trialsFailed
  objective { metric goal target } space { node name type low high step log choices condition }
  budget { maxTrials maxParallel maxFailed maxSeconds maxCredits } bestTrial { id number value } bestValues { trialNumber value }
  experiment { id name } pipeline { id } datasetVersion { id } startedAt completedAt
  trials(first: 100, orderBy: {field: NUMBER, direction: ASC}) { edges { node { id number status parameters value suggestedFrom duration
    run { id status hyperparameters seed trial { number } } job { id kind status parameters } } } } } }"""


CSV = "a,b\n" + "".join(f"{row},{row * 7 % 11}\n" for row in range(60))
ALPHAS = {"node": "train", "name": "alpha", "type": "DOUBLE", "low": 0.5, "high": 2.0, "step": 0.5}
CHANGE = "mutation($id: ID!) {{ {0}(input: {{id: $id}}) {{ __typename ... on Problem {{ message }} ... on WrongState {{ state }} }} }}"


async def ridge(client: Client) -> dict[str, Any]:
    """Make what a study of a ridge regression needs; return that as its input."""
    version = await client.ingest("d", CSV)
    pipeline = await client.create_pipeline("p", ("data", "dataset", {}), ("train", "train_ridge_regression", {"target": "b"}))
    return {"name": "s", "pipelineId": pipeline["pipeline"]["id"], "datasetVersionId": version, "objective": {"metric": "rmse"}}


async def created(client: Client, inputs: dict[str, Any], **fields: Any) -> str:
    """Create a study, and return its id."""
    answer = await create(client, **inputs, **fields)
    assert answer["__typename"] == "CreateStudyPayload", answer
    return answer["study"]["id"]


async def change(client: Client, mutation: str, study: str) -> dict[str, Any]:
    """Send a mutation that takes the study alone, such as `pauseStudy`."""
    query = CHANGE.format(mutation)
    if mutation == "deleteStudy":
        query = query.replace("... on WrongState { state", "... on Blocked { reason")
    return await client.one(query, id=study)


async def create(client: Client, **fields: Any) -> dict[str, Any]:
    return await client.one(CREATE, input=fields)


async def ended(client: Client, study: str) -> dict[str, Any]:
    """Wait until the study has ended, and return what it tells."""
    return await until(client, study, "COMPLETED", "FAILED", "CANCELLED")


async def until(client: Client, study: str, *statuses: str) -> dict[str, Any]:
    """Wait until the study has one of these statuses, and return what it tells."""
    async with asyncio.timeout(600):
        while True:
            told = await client.one("query($id: ID!) { study(id: $id) { status } }", id=study)
            if told["status"] in statuses:
                return await client.one(STUDY, id=study)
            await asyncio.sleep(0.05)


def trials(study: dict[str, Any]) -> list[dict[str, Any]]:
    return [edge["node"] for edge in study["trials"]["edges"]]
