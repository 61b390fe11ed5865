"""An explanation belongs to the owner of its model, follows the retry of its job, and is refused with a way out where its method cannot explain."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import insert, select, update

from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services import jobs
from db.tables import Artifact, Explanation, Job, ModelVersion
from db.tables.explanations import ExplanationMethod
from db.tables.jobs import JobKind
from tests.client import Client
from tests.endings import key_of
from tests.explanations.explaining import EXPLANATION, create
from tests.predictions.predicting import train

DELETE = "mutation($id: ID!) { deleteExplanation(input: {id: $id}) { __typename ... on DeleteExplanationPayload { deletedId } ... on WrongState { state } } }"
RETRY = "mutation($id: ID!) { retryJob(input: {id: $id}) { __typename ... on RetryJobPayload { job { id } } ... on Problem { message } } }"
CANCEL = "mutation($id: ID!) { cancelJob(input: {id: $id}) { __typename } }"
LISTS = """query($model: ID!, $run: ID!) {
  model: node(id: $model) { ... on ModelVersion { explanations { totalCount edges { node { id } } } predictions { totalCount } } }
  run: node(id: $run) { ... on Run { explanations { edges { node { id } } } } } }"""
CSV = "a,b,c\n" + "".join(f"{number},{number * 7 % 11},{number % 5}\n" for number in range(40))


async def test_an_explanation_is_its_owners_follows_retries_and_is_deleted_with_its_files(
    ada: Client, bob: Client, database: Database, worker: object
) -> None:
    version = await ada.ingest("d", CSV)
    model = await train(ada, version, ("train", "train_linear_regression", {"target": "a"}))
    request: dict[str, Any] = {"features": ["b"], "seed": 5, "idempotencyKey": "once"}
    created = await create(ada, model, "LINEAR", **request)
    assert created["explanation"]["status"] in {"PENDING", "QUEUED", "RUNNING"}  # of its job, which may have been taken already
    assert (await create(ada, model, "LINEAR", **request))["explanation"]["id"] == created["explanation"]["id"]
    explanation, job = created["explanation"]["id"], created["job"]["id"]
    ended = await ada.wait(job)
    assert [(node["key"], node["status"]) for node in ended["nodes"]] == [(key, "COMPLETED") for key in ("fetch", "explain", "store")]
    told = await ada.one(EXPLANATION, id=explanation)
    assert (told["status"], told["modelVersion"], told["job"]) == ("COMPLETED", {"id": model}, {"id": job, "kind": "EXPLAIN"})
    assert [each["feature"] for each in told["attributions"]] == ["b"]
    assert (told["data"]["features"], told["dataFile"], told["item"]) == (["b"], None, None)
    lists = await ada.execute(LISTS, model=model, run=told["run"]["id"])
    assert lists["model"] == {"explanations": {"totalCount": 1, "edges": [{"node": {"id": explanation}}]}, "predictions": {"totalCount": 0}}
    assert lists["run"] == {"explanations": {"edges": [{"node": {"id": explanation}}]}}
    assert (await ada.one(RETRY, id=job))["message"] == "The explanation is complete. Make another one with `createExplanation`."

    assert await bob.one(EXPLANATION, id=explanation) is None
    assert (await create(bob, model, "LINEAR"))["__typename"] == "NotFound"
    assert await bob.one(DELETE, id=explanation) == {"__typename": "NotFound"}
    assert await bob.execute(LISTS, model=model, run=told["run"]["id"]) == {"model": None, "run": None}

    waiting = await _waiting(database, model)  # in a queue that no worker serves
    retried_job = (await ada.one(EXPLANATION, id=waiting))["job"]["id"]
    assert await ada.one(DELETE, id=waiting) == {"__typename": "WrongState", "state": "PENDING"}
    await ada.one(CANCEL, id=retried_job)
    assert (await ada.one(EXPLANATION, id=waiting))["status"] == "CANCELLED"
    retry = (await ada.one(RETRY, id=retried_job))["job"]["id"]
    assert (await ada.one(EXPLANATION, id=waiting))["job"]["id"] == retry
    assert (await ada.one(RETRY, id=retried_job))["__typename"] == "WrongState"  # the retry makes it
    async with database.work(SYSTEM) as work:
        await work.run(update(Job).where(Job.id == key_of(retry)).values(queue="default"))
    assert (await ada.wait(retry))["status"] == "COMPLETED"
    assert len((await ada.one(EXPLANATION, id=waiting))["data"]["outputs"][0]["contributions"]) == 2  # the rows of the first job

    assert await ada.one(DELETE, id=waiting) == {"__typename": "DeleteExplanationPayload", "deletedId": waiting}
    assert await ada.one(DELETE, id=waiting) == {"__typename": "NotFound"}
    left = await database.rows(select(Artifact.explanation_id).where(Artifact.explanation_id.is_not(None)).distinct())
    assert [row.explanation_id for row in left] == [key_of(explanation)]
    assert (await ada.wait(retry))["outputs"] == []


async def _waiting(database: Database, model: str) -> str:
    """An explanation of two rows, as `createExplanation` makes it, whose job no worker claims."""
    explanation = uuid4()
    options = {"method": "LINEAR", "maxRows": 10, "features": None, "classLabel": None, "seed": 0}
    async with database.work(SYSTEM) as work:
        version = ModelVersion.id == key_of(model)
        owner = await work.scalar(select(Job.owner_id).join(ModelVersion, ModelVersion.job_id == Job.id).where(version))
        new = jobs.NewJob(
            owner, JobKind.EXPLAIN, "nobody", parameters={"explanationId": str(explanation), **options}, model_version_id=key_of(model)
        )
        job = await jobs.submit(work, new)
        await work.connection.exec_driver_sql(
            'INSERT INTO job_documents (job_id, input) VALUES ($1, \'[{"b": 1, "c": 2}, {"b": 3, "c": 4}]\')', (job.id,)
        )
        values = {
            "id": explanation,
            "owner_id": owner,
            "job_id": job.id,
            "model_version_id": key_of(model),
            "method": ExplanationMethod.LINEAR,
        }
        await work.run(insert(Explanation).values(values))
    return f"explanation_{explanation.hex}"


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    "TREE_SHAP explains models of trees, and model v1 is of LogisticRegression. Use LINEAR.": ("TREE_SHAP", {}),
    "INTEGRATED_GRADIENTS explains neural networks, and model v1 is of LogisticRegression. Use LINEAR.": ("INTEGRATED_GRADIENTS", {}),
    "OCCLUSION hides parts of an image, a recording or a signal, and model v1 reads no contents of items. Explain its columns by another method,"
    " such as PERMUTATION.": ("OCCLUSION", {}),
    "features.0: The model takes no column 'bb'. Did you mean 'b'?": ("LINEAR", {"features": ["bb"]}),
    "features: Name 1 or more columns, or leave this out.": ("LINEAR", {"features": []}),
    "classLabel: The model does not know the class 'maybe'. Its classes are 'no', 'yes'.": ("LINEAR", {"classLabel": "maybe"}),
    "classLabel: PERMUTATION measures how well all classes are predicted. Leave the class out.": ("PERMUTATION", {"classLabel": "yes"}),
    "maxRows: This is 0; 1 to 10,000 rows are explained at once.": ("LINEAR", {"maxRows": 0}),
    "rows: PERMUTATION compares predictions with the target. Name a datasetVersionId that has it, or leave the rows out.": (
        "PERMUTATION",
        {"rows": [{"a": 1, "b": 2}]},
    ),
    "rows: Send at least one row, or leave this out.": ("LINEAR", {"rows": []}),
    "rows.0.b: A number is expected; this is the text 'x'.": ("LINEAR", {"rows": [{"a": 1, "b": "x"}]}),
}


async def test_what_a_method_cannot_explain_is_refused_with_a_way_out(ada: Client, database: Database, worker: object) -> None:
    rows = "".join(f"{number},{number * 7 % 11},{'yes' if number % 3 else 'no'}\n" for number in range(40))
    version = await ada.ingest("d", "a,b,label\n" + rows)
    model = await train(ada, version, ("train", "train_logistic_regression", {"target": "label"}))
    other = await ada.ingest("other", "a,b\n1,2\n3,4\n")
    before = await database.rows(select(Job.id))
    for message, (method, fields) in REFUSED.items():
        answer = await create(ada, model, method, **fields)
        assert (answer["__typename"], answer["message"]) == ("InvalidInput" if ":" in message else "Unsupported", message)
    answer = await create(ada, model, "PERMUTATION", datasetVersionId=other)
    assert [issue["path"] for issue in answer["issues"]] == [["datasetVersionId"]]
    assert "does not have the model's target 'label'" in answer["message"]
    answer = await create(ada, model, "LINEAR", datasetVersionId=other, rows=[{"a": 1, "b": 2}])
    assert answer["message"] == "rows: Name one of datasetVersionId, itemId and rows; there is datasetVersionId already."
    answer = await create(ada, model, "LINEAR", features=["a"] * 70 + [f"b{number}" for number in range(30)])
    assert [issue["path"] for issue in answer["issues"]] == [["features", str(70 + number)] for number in range(20)]
    assert [issue["message"] for issue in answer["issues"] if "Did you mean 'b'?" in issue["message"]] == [
        f"The model takes no column 'b{number}'. Did you mean 'b'?" for number in range(3)
    ]
    assert await database.rows(select(Job.id)) == before
    assert await database.rows(select(Explanation.id)) == []
