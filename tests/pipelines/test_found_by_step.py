"""Pipelines are found by a step that they have, as they are now."""

from __future__ import annotations

from tests.client import Client

LIST = "query($key: String!) { pipelines(filter: {stepKey: $key}) { totalCount edges { node { name } } } }"
UPDATE = """mutation($input: UpdatePipelineInput!) { updatePipeline(input: $input) { __typename } }"""


async def names(client: Client, key: str) -> list[str]:
    found = await client.one(LIST, key=key)
    assert found["totalCount"] == len(found["edges"])
    return [edge["node"]["name"] for edge in found["edges"]]


async def test_a_pipeline_is_found_by_each_of_its_steps_until_it_is_changed(ada: Client, bob: Client, worker: object) -> None:
    data = ("data", "dataset", {})
    scaling = (await ada.create_pipeline("scaling", data, ("s", "scale", {}), ("t", "scale", {})))["pipeline"]["id"]
    await ada.create_pipeline("encoding", data, ("e", "one_hot_encode", {}))
    await bob.create_pipeline("bob's", data, ("s", "scale", {}))
    assert await names(ada, "dataset") == ["encoding", "scaling"]
    assert await names(ada, "scale") == ["scaling"]
    assert await names(ada, "Scale") == await names(ada, "one_hot") == await names(ada, "") == []
    nodes = [{"key": "d", "step": "dataset"}, {"key": "i", "step": "impute"}]
    definition = {"nodes": nodes, "links": [{"source": "d", "target": "i"}]}
    assert (await ada.one(UPDATE, input={"id": scaling, "definition": definition}))["__typename"] == "UpdatePipelinePayload"
    assert (await names(ada, "scale"), await names(ada, "impute")) == ([], ["scaling"])
