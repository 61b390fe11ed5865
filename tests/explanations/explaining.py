"""Make an explanation, and read what it tells."""

from __future__ import annotations

from typing import Any

from tests.client import Client

EXPLANATION = """query($id: ID!) { explanation(id: $id) { id method status additivityError data dataFile { id role downloadUrl }
  attributions { feature meanAbsolute mean standardDeviation classLabel }
  plots { role filename contentType sizeBytes downloadUrl } modelVersion { id } run { id } datasetVersion { id } item { id } job { id kind } } }"""


async def create(client: Client, model: str, method: str, **fields: Any) -> dict[str, Any]:
    return await client.one(
        "mutation($input: CreateExplanationInput!) { createExplanation(input: $input) { __typename"
        " ... on CreateExplanationPayload { explanation { id status } job { id } } ... on Problem { code message }"
        " ... on InvalidInput { issues { path message } } } }",
        input={"modelVersionId": model, "method": method, **fields},
    )


async def explain(client: Client, model: str, method: str, **fields: Any) -> dict[str, Any]:
    created = await create(client, model, method, **fields)
    assert created["__typename"] == "CreateExplanationPayload", created
    ended = await client.wait(created["job"]["id"])
    assert ended["status"] == "COMPLETED", ended
    assert ended["outputs"] == [{"__typename": "Explanation", "id": created["explanation"]["id"]}]
    return await client.one(EXPLANATION, id=created["explanation"]["id"])


def sizes(explanation: dict[str, Any]) -> dict[str, float]:
    return {each["feature"]: each["meanAbsolute"] for each in explanation["attributions"]}
