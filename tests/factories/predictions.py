"""Predictions: for each model version a completed job, with what it was given and what it answered."""

from __future__ import annotations

from tests.client import Client
from tests.factories import Factory

_ROWS = """
SET LOCAL session_replication_role = replica;

INSERT INTO jobs (owner_id, created_by_id, kind, status, queue, progress, attempt, tries, last_sequence, model_version_id,
  parameters, created_at, queued_at, started_at, completed_at)
SELECT m.owner_id, m.owner_id, 'predict', 'completed', 'default', 100, 1, 1, 1, v.id, '{"rows": 1}', now() - interval '1 day', now(), now(), now()
FROM model_versions v JOIN models m ON m.id = v.model_id JOIN users u ON u.id = m.owner_id WHERE u.username = :owner;

SET LOCAL session_replication_role = origin;

INSERT INTO job_attempts (job_id, number, worker, ended_at, outcome)
SELECT j.id, 1, 'worker', now(), 'completed' FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner AND j.kind = 'predict';

INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
SELECT j.id, 1, 0, 'created', 'pending', 0 FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner AND j.kind = 'predict';

INSERT INTO job_documents (job_id, input, result)
SELECT j.id, '[{"a": 1}]', '{"predictions": [{"prediction": 2.5}], "issues": []}' FROM jobs j JOIN users u ON u.id = j.owner_id
WHERE u.username = :owner AND j.kind = 'predict';
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    predicted = await ada.one(
        "mutation($input: PredictDatasetInput!) { predictDataset(input: $input) { ... on PredictDatasetPayload { job { id } }"
        " ... on Problem { code message } ... on InvalidInput { issues { path message } } } }",
        input={"modelVersionId": ids["model version"], "datasetVersionId": ids["ready"]},
    )
    ids["prediction job"] = predicted["job"]["id"]
    assert (await ada.wait(ids["prediction job"]))["status"] == "COMPLETED"


FACTORY = Factory(
    ids={},
    after=("jobs", "models"),
    rows=_ROWS,
    story=_tell,
    unfilled=("Job.modelVersion",),  # the newest jobs, which tests of edges read, are trainings
)
