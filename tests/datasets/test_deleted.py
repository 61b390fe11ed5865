"""What is left of a deleted dataset: edges lead to it and its versions, nothing serves their files and rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.client import Client
from tests.graph_walk import walk

CSV = b"a,b\n1,x\n2,y\n"
DELETE = "mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }"
VERSION = """id status rowCount columns { name } preview rawFile { id role downloadUrl } processedFile { id role downloadUrl }
  profile { id rowCount columns { name } correlations } dataset { name deletedAt }"""
BY_EDGE = f"query($id: ID!) {{ job(id: $id) {{ datasetVersion {{ {VERSION} }} outputs {{ ... on DatasetVersion {{ {VERSION} }} }} }} }}"
BY_ID = "query($id: ID!, $ids: [ID!]!) { node(id: $id) { id } nodes(ids: $ids) { id } }"


async def test_the_versions_of_a_deleted_dataset_are_found_by_edge_alone_and_without_their_data(ada: Client, worker: object) -> None:
    dataset = await ada.create_dataset("d")
    version, job = await ada.upload(dataset, "d.csv", CSV)
    assert (await ada.wait(job))["status"] == "COMPLETED"
    before = (await ada.one(BY_EDGE, id=job))["datasetVersion"]
    assert (len(before["preview"]), len(before["profile"]["columns"])) == (2, 2)
    ids = [version, before["profile"]["id"], before["rawFile"]["id"], before["processedFile"]["id"]]
    assert (await ada.execute(BY_ID, id=version, ids=ids))["nodes"] == [{"id": child} for child in ids]
    assert await ada.one(DELETE, id=dataset) == {"__typename": "DeleteDatasetPayload"}
    for child in ids:
        assert await ada.execute(BY_ID, id=child, ids=[dataset, *ids]) == {"node": None, "nodes": [None] * 5}
    after = await ada.one(BY_EDGE, id=job)
    assert after["datasetVersion"]["dataset"]["deletedAt"] is not None
    assert after["datasetVersion"] == {
        **before,
        "rawFile": None,
        "processedFile": None,
        "preview": [],
        "profile": {**before["profile"], "columns": [], "correlations": {}},
        "dataset": after["datasetVersion"]["dataset"],
    }
    assert after["outputs"][0] == after["datasetVersion"]
    pipeline = (await ada.create_pipeline("p", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    assert (await ada.run_pipeline(pipeline, version))["code"] == "NOT_FOUND"
    (job_node,) = (await walk(ada, [job]))["Job"]
    assert job_node["datasetVersion"]["dataset"]["deletedAt"] is not None, "the edges of its edges are read as well"
    assert {artifact["role"] for artifact in artifacts(job_node)} <= {"LOG"}


def artifacts(value: Any) -> Iterator[dict[str, Any]]:
    """Every artifact in an answer."""
    if isinstance(value, dict):
        if value.get("__typename") == "Artifact":
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from artifacts(item)


async def test_the_url_of_an_upload_is_not_signed_again_after_its_dataset_was_deleted(ada: Client) -> None:
    dataset = await ada.create_dataset("d")
    requested = await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k")
    assert (await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k"))["upload"]["id"] == requested["upload"]["id"]
    await ada.one(DELETE, id=dataset)
    assert (await ada.request_upload(dataset, "d.csv", CSV, idempotencyKey="k"))["code"] == "NOT_FOUND"
    assert (await ada.complete_upload(requested["upload"]["id"]))["code"] == "NOT_FOUND"
