"""Jobs: for each dataset a completed training with its attempt, node, input and events; jobs in every state."""

from __future__ import annotations

import asyncio

from db.tables import Job
from tests.client import Client
from tests.factories import Factory, Nodes

# Triggers require each job to start as pending and to follow the state machine, so they are disabled while whole histories are inserted.
_ROWS = """
SET LOCAL session_replication_role = replica;

WITH numbered_versions AS (
  SELECT d.owner_id, d.id AS dataset_id, v.id AS version_id, row_number() OVER (ORDER BY d.id) AS i
  FROM datasets d JOIN dataset_versions v ON v.dataset_id = d.id JOIN users u ON u.id = d.owner_id WHERE u.username = :owner),
numbered_snapshots AS (
  SELECT p.id AS pipeline_id, s.id AS snapshot_id, row_number() OVER (ORDER BY p.id) AS i
  FROM pipelines p JOIN pipeline_snapshots s ON s.pipeline_id = p.id JOIN users u ON u.id = p.owner_id WHERE u.username = :owner)
INSERT INTO jobs (owner_id, created_by_id, kind, status, queue, progress, attempt, tries, last_sequence, dataset_id, dataset_version_id, pipeline_id, snapshot_id,
  queued_at, started_at, completed_at)
SELECT v.owner_id, v.owner_id, 'train', 'completed', 'tabular', 100, 1, 1, 3, v.dataset_id, v.version_id, s.pipeline_id, s.snapshot_id, now(), now(), now()
FROM numbered_versions v JOIN numbered_snapshots s USING (i);

SET LOCAL session_replication_role = origin;

INSERT INTO job_attempts (job_id, number, worker, ended_at, outcome)
SELECT j.id, 1, 'worker', now(), 'completed' FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner;

INSERT INTO job_nodes (job_id, attempt, key, position, step, status, progress)
SELECT j.id, 1, 'data', 0, 'dataset', 'completed', 100 FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner;

INSERT INTO job_inputs (job_id, dataset_version_id)
SELECT j.id, j.dataset_version_id FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner;

INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
SELECT j.owner_id, 'test/' || j.id || '/CONFIG', 10, md5(j.id::text || 'CONFIG') || repeat('0', 32)
FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner;

INSERT INTO artifacts (owner_id, object_id, job_id, attempt, role, filename, content_type)
SELECT o.owner_id, o.id, j.id, 1, 'CONFIG', 'config.json', 'application/json'
FROM jobs j JOIN users u ON u.id = j.owner_id JOIN stored_objects o ON o.object_key = 'test/' || j.id || '/CONFIG' WHERE u.username = :owner;

INSERT INTO pipeline_inputs (pipeline_id, dataset_id)
SELECT j.pipeline_id, j.dataset_id FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner AND j.kind = 'train';

INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
SELECT j.id, s, least(s - 1, 1), (ARRAY['created', 'started', 'completed'])[s], (ARRAY['pending', 'running', 'completed'])[s], (s - 1) * 50
FROM jobs j JOIN users u ON u.id = j.owner_id, generate_series(1, 3) s WHERE u.username = :owner;
"""

_STATES = """
SET LOCAL session_replication_role = replica;

INSERT INTO jobs (owner_id, kind, status, queue, attempt, tries, last_sequence, error, retry_of_id, queued_at, dispatched_at, run_after,
  started_at, lease_until, completed_at)
SELECT u.id, v.kind, status, queue, attempt, attempt, 1,
  CASE status WHEN 'failed' THEN '{"code": "INTERNAL", "message": "It broke.", "retryable": true, "traceback": null}'::jsonb END,
  CASE status WHEN 'pending' THEN (SELECT min(id::text)::uuid FROM jobs WHERE owner_id = u.id) END,
  CASE WHEN status <> 'pending' THEN now() END, CASE WHEN status <> 'pending' THEN now() END,
  CASE WHEN status IN ('pending', 'queued') THEN now() + interval '1 day' END,
  CASE WHEN attempt > 0 THEN now() END,
  CASE WHEN status IN ('running', 'cancelling') THEN now() + interval '1 day' END,
  CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN now() END
FROM users u, (VALUES ('train', 'pending', 'tabular', 0), ('train', 'queued', 'image', 0), ('train', 'running', 'tabular', 1),
  ('train', 'cancelling', 'default', 1), ('train', 'failed', 'tabular', 1), ('train', 'cancelled', 'tabular', 0),
  ('ingest', 'completed', 'default', 1)) v(kind, status, queue, attempt)
WHERE u.username = :owner;

SET LOCAL session_replication_role = origin;

INSERT INTO job_attempts (job_id, number, worker, error)
SELECT j.id, 1, 'worker', j.error FROM jobs j JOIN users u ON u.id = j.owner_id
WHERE u.username = :owner AND j.attempt > 0 AND NOT EXISTS (SELECT FROM job_attempts a WHERE a.job_id = j.id);

INSERT INTO job_nodes (job_id, attempt, key, position, step, status)
SELECT j.id, 1, s.status, s.position, 'dataset', s.status FROM jobs j JOIN users u ON u.id = j.owner_id,
  unnest(ARRAY['pending', 'running', 'completed', 'failed', 'skipped', 'cancelled']) WITH ORDINALITY s(status, position)
WHERE u.username = :owner AND j.status = 'failed' AND j.error ->> 'message' = 'It broke.';

INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
SELECT j.id, 1, 0, 'created', 'pending', 0 FROM jobs j JOIN users u ON u.id = j.owner_id
WHERE u.username = :owner AND NOT EXISTS (SELECT FROM job_events e WHERE e.job_id = j.id);

INSERT INTO job_checkpoints (job_id, name, attempt, position)
SELECT j.id, 'train', 1, 2 FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner AND j.status = 'running';

INSERT INTO owner_turns (owner_id, queue) SELECT u.id, 'video' FROM users u WHERE u.username = :owner;

INSERT INTO idempotency_keys (owner_id, key, operation, request_sha256)
SELECT u.id, 'of a factory', 'runPipeline', repeat('c', 64) FROM users u WHERE u.username = :owner;
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    for name in ("training", "processing"):
        ids[f"{name} job"] = (await ada.run_pipeline(ids[name], ids["ready"]))["job"]["id"]
        assert (await ada.wait(ids[f"{name} job"]))["status"] == "COMPLETED"
    job = await ada.one("query($id: ID!) { job(id: $id) { outputs { ... on ModelVersion { id } } } }", id=ids["training job"])
    (output,) = job["outputs"]
    ids["model version"] = output["id"]
    long = await ada.run_pipeline(ids["training"], ids["ready"], parameters={"train": {"n_estimators": 2000}})
    ids["cancelled job"] = long["job"]["id"]
    await _cancel(ada, ids["cancelled job"])
    retried = await ada.one(
        "mutation($input: RetryJobInput!) { retryJob(input: $input) { ... on RetryJobPayload { job { id } run { id } } ... on Problem { code message } } }",
        input={"id": ids["cancelled job"]},
    )
    ids["retried job"] = retried["job"]["id"]
    await _cancel(ada, ids["retried job"])


async def _cancel(ada: Client, job: str) -> None:
    answer = await ada.one(
        "mutation($id: ID!) { cancelJob(input: {id: $id}) { ... on CancelJobPayload { job { status } } ... on Problem { code message } } }",
        id=job,
    )
    assert answer["job"]["status"] in {"CANCELLING", "CANCELLED"}, answer
    async with asyncio.timeout(60):
        assert (await ada.wait(job))["status"] == "CANCELLED"


def _has_a_retry(nodes: Nodes) -> bool:
    return any(job["retryOf"] for job in nodes["Job"])


FACTORY = Factory(
    ids={"job": Job},
    after=("datasets", "pipelines"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    story_statuses=(("Job", "COMPLETED"), ("Job", "FAILED"), ("Job", "CANCELLED")),
    conditions={"a job is a retry of another one": _has_a_retry},
    unfilled=("Job.creditTransactions", "Job.credits", "Job.error", "Job.retryOf"),  # each was free, and completed at its first attempt
)
