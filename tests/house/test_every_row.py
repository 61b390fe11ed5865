"""A non-null field holds for every row there can be: each is asked for whole, field by field, whatever became of it."""

from __future__ import annotations

import asyncio

from tests.client import Client
from tests.graph_walk import walk

CSV = "x,y,label\n" + "".join(f"{i},{i * 2 % 7},{'a' if i % 3 else 'b'}\n" for i in range(90))
TRAIN = (("data", "dataset", {}), ("train", "train_random_forest", {"target": "label", "n_estimators": 5}))


async def test_every_field_of_every_kind_of_row_can_be_asked_for(ada: Client, bob: Client, admin: Client, worker: object) -> None:
    ids = await _all_kinds_of_rows(ada)
    nodes_by_type = await walk(ada, ids)
    kinds = {
        "User",
        "Dataset",
        "DatasetVersion",
        "DatasetProfile",
        "Artifact",
        "Pipeline",
        "PipelineSnapshot",
        "Job",
        "Model",
        "ModelVersion",
        "Experiment",
        "Run",
    }
    assert set(nodes_by_type) == kinds
    statuses = {(node["__typename"], node["status"]) for nodes in nodes_by_type.values() for node in nodes if "status" in node}
    assert {("DatasetVersion", "UPLOADING"), ("DatasetVersion", "FAILED"), ("DatasetVersion", "READY")} <= statuses
    assert {("Job", "COMPLETED"), ("Job", "FAILED"), ("Job", "CANCELLED"), ("Run", "COMPLETED"), ("Run", "CANCELLED")} <= statuses
    assert {"UPLOAD", "DERIVED"} <= {version["source"] for version in nodes_by_type["DatasetVersion"]}
    assert any(job["retryOf"] for job in nodes_by_type["Job"])
    assert any(dataset["deletedAt"] for version in nodes_by_type["DatasetVersion"] for dataset in [version["dataset"]])
    assert set(await walk(admin, ids)) == kinds
    ada_node_ids = sorted(node["id"] for nodes in nodes_by_type.values() for node in nodes)
    for first in range(0, len(ada_node_ids), 100):
        batch = ada_node_ids[first : first + 100]
        assert await bob.one("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", ids=batch) == [None] * len(batch), (
            "a stranger sees none of it"
        )


async def _all_kinds_of_rows(ada: Client) -> set[str]:
    """One row of each fate, made through the API."""
    ready = await ada.ingest("ready", CSV, targetColumn="label", problemType="CLASSIFICATION")
    dataset = (await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }", id=ready))["dataset"]["id"]
    unfinished = (await ada.request_upload(dataset, "later.csv", b"x"))["upload"]
    mismatched = (await ada.request_upload(dataset, "other.csv", b"abc", sha256="0" * 64))["upload"]
    assert (await ada.put(mismatched, b"abc")).status_code == 200
    assert (await ada.complete_upload(mismatched["id"]))["__typename"] == "UploadMismatch"
    broken, failed = await ada.upload(await ada.create_dataset("broken"), "picture.csv", b"\x89PNG\r\n\x1a\n" + b"\x00" * 64)
    assert (await ada.wait(failed))["status"] == "FAILED"

    training = (await ada.create_pipeline("training", *TRAIN))["pipeline"]["id"]
    trained = await ada.run_pipeline(training, ready)
    assert (await ada.wait(trained["job"]["id"]))["status"] == "COMPLETED"
    job = await ada.one("query($id: ID!) { job(id: $id) { outputs { ... on ModelVersion { id } } } }", id=trained["job"]["id"])
    (output,) = job["outputs"]
    await ada.one(
        "mutation($input: SetModelAliasInput!) { setModelAlias(input: $input) { __typename } }",
        input={"modelVersionId": output["id"], "name": "production"},
    )
    processing = (await ada.create_pipeline("processing", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]
    processed = await ada.run_pipeline(processing, ready)
    assert (await ada.wait(processed["job"]["id"]))["status"] == "COMPLETED"

    long = await ada.run_pipeline(training, ready, parameters={"train": {"n_estimators": 2000}})
    await _cancel(ada, long["job"]["id"])
    retried = await ada.one(
        "mutation($input: RetryJobInput!) { retryJob(input: $input) { ... on RetryJobPayload { job { id } run { id } } ... on Problem { code message } } }",
        input={"id": long["job"]["id"]},
    )
    await _cancel(ada, retried["job"]["id"])

    gone = await ada.ingest("gone", CSV)
    last = (await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { producedBy { id } } } }", id=gone))["producedBy"]["id"]
    removed = (await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }", id=gone))["dataset"]["id"]
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=removed)
    jobs = [failed, last, *(answer["job"]["id"] for answer in (trained, processed, long, retried))]
    return {
        ready,
        broken,
        gone,
        unfinished["version"]["id"],
        mismatched["version"]["id"],
        training,
        processing,
        dataset,
        output["id"],
        *jobs,
    }


async def _cancel(ada: Client, job: str) -> None:
    answer = await ada.one(
        "mutation($id: ID!) { cancelJob(input: {id: $id}) { ... on CancelJobPayload { job { status } } ... on Problem { code message } } }",
        id=job,
    )
    assert answer["job"]["status"] in {"CANCELLING", "CANCELLED"}, answer
    async with asyncio.timeout(30):
        assert (await ada.wait(job))["status"] == "CANCELLED"
