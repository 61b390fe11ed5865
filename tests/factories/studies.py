"""Studies: for each run of a training a completed one, whose only trial the run is; studies and trials of every status."""

from __future__ import annotations

import asyncio

from db.tables import Study, Trial
from tests.client import Client
from tests.factories import Factory

_SPACE = """'[{"node": "train", "name": "n_estimators", "type": "int", "low": 10, "high": 50, "step": 10, "log": false, "choices": null,
  "condition": {"node": "train", "name": "max_depth", "in": [3]}}, {"node": "train", "name": "max_depth", "type": "categorical", "low": null, "high": null,
  "step": null, "log": false, "choices": [3, 5], "condition": null}]'"""

_ROWS = f"""
WITH numbered_runs AS (
  SELECT r.id, r.owner_id, r.experiment_id, r.dataset_version_id, j.snapshot_id, j.pipeline_id, row_number() OVER (ORDER BY r.id) AS i
  FROM runs r JOIN jobs j ON j.id = r.job_id
  JOIN users u ON u.id = r.owner_id WHERE u.username = :owner AND r.status = 'completed')
INSERT INTO studies (owner_id, created_by_id, name, kind, method, status, reason, ends_as, experiment_id, pipeline_id, snapshot_id, dataset_version_id,
  input_version_ids, metric, goal, target, space, seed, is_reproducible, max_trials, max_parallel, max_failed, max_seconds, max_credits, trials_total,
  min_steps, max_steps, reduction_factor, importances, importances_of, last_number, trials_completed, best_value, last_sequence, started_at, completed_at)
SELECT r.owner_id, r.owner_id, 'study ' || r.i, 'nas', 'hyperband', 'completed', 'trials', 'completed', r.experiment_id, r.pipeline_id, r.snapshot_id,
  r.dataset_version_id, ARRAY[r.dataset_version_id], 'accuracy', 'maximize', 0.99, {_SPACE}, 7, true, 1, 1, 1, 3600, 100, 1,
  1, 10, 3, '[{{"parameter": "train.max_depth", "importance": 1}}]', 1, 1, 1, 0.9, 3, now(), now()
FROM numbered_runs r;

WITH numbered_runs AS (
  SELECT r.*, row_number() OVER (ORDER BY r.id) AS i FROM runs r JOIN users u ON u.id = r.owner_id WHERE u.username = :owner AND r.status = 'completed')
INSERT INTO trials (study_id, number, status, job_id, run_id, parameters, suggested_from, architecture_hash, value, parameter_count, is_best, started_at,
  completed_at)
SELECT s.id, 1, 'completed', r.job_id, r.id, '{{"train.max_depth": 3, "train.n_estimators": 20}}', 1, 'abc', 0.9, 12, true, now(), now()
FROM numbered_runs r JOIN studies s ON s.owner_id = r.owner_id AND s.name = 'study ' || r.i;

INSERT INTO trial_rungs (trial_id, rung, study_id, number, value)
SELECT t.id, 0, t.study_id, t.number, 0.8 FROM trials t JOIN studies s ON s.id = t.study_id JOIN users u ON u.id = s.owner_id WHERE u.username = :owner;

UPDATE studies s SET best_trial_id = t.id FROM trials t, users u WHERE t.study_id = s.id AND u.id = s.owner_id AND u.username = :owner;

UPDATE runs r SET study_id = t.study_id FROM trials t, users u WHERE t.run_id = r.id AND u.id = r.owner_id AND u.username = :owner;

INSERT INTO study_events (study_id, sequence, trial_id)
SELECT s.id, i, t.id FROM studies s JOIN trials t ON t.study_id = s.id JOIN users u ON u.id = s.owner_id, generate_series(1, 3) i WHERE u.username = :owner;
"""

_STATES = """
WITH example AS (
  SELECT s.* FROM studies s JOIN users u ON u.id = s.owner_id WHERE u.username = :owner ORDER BY s.id LIMIT 1)
INSERT INTO studies (owner_id, name, kind, method, status, reason, ends_as, experiment_id, pipeline_id, snapshot_id, dataset_version_id, input_version_ids,
  metric, goal, seed, max_trials, max_parallel, max_failed, trials_total, completed_at, deleted_at)
SELECT e.owner_id, v.name, 'hpo', 'grid', v.status, v.reason, v.ends_as, e.experiment_id, e.pipeline_id, e.snapshot_id, e.dataset_version_id,
  e.input_version_ids, 'loss', 'minimize', 0, 10, 2, 1, 10, CASE WHEN v.ends_as IS NOT NULL THEN now() END, v.deleted_at
FROM example e, (VALUES ('Without a trial', 'pending', NULL, NULL, NULL::timestamptz), ('Every state', 'paused', 'user', NULL, NULL),
  ('Runs', 'paused', 'credits', NULL, NULL), ('Failed', 'failed', 'failures', 'failed', NULL), ('Cancelled', 'cancelled', 'user', 'cancelled', NULL),
  ('Deleted', 'completed', 'target', 'completed', now())) v(name, status, reason, ends_as, deleted_at);

-- All their trials were made, so that no worker makes others.
UPDATE studies s SET last_number = 10, trials_cancelled = 10 FROM users u
WHERE u.id = s.owner_id AND u.username = :owner AND s.name IN ('Without a trial', 'Runs');

UPDATE studies s SET status = 'running', reason = NULL, started_at = now(), running_since = now()
FROM users u WHERE u.id = s.owner_id AND u.username = :owner AND s.name = 'Runs';

INSERT INTO trials (study_id, number, status, job_id, run_id, completed_at, pruning)
SELECT s.id, row_number() OVER (ORDER BY r.id), CASE WHEN r.status = 'completed' THEN 'pruned' ELSE r.status END, r.job_id, r.id,
  CASE WHEN r.status NOT IN ('pending', 'running') THEN now() END,
  CASE WHEN r.status = 'completed' THEN '{"rung": 1, "step": 8, "value": 0.5, "rank": 3, "of": 3}'::jsonb END
FROM runs r JOIN studies s ON s.owner_id = r.owner_id AND s.name = 'Every state' JOIN users u ON u.id = s.owner_id
WHERE u.username = :owner AND r.job_id IS NOT NULL AND NOT EXISTS (SELECT FROM trials t WHERE t.run_id = r.id);
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    created = await ada.one(
        "mutation($input: CreateStudyInput!) { createStudy(input: $input) { ... on CreateStudyPayload { study { id } } ... on Problem { code message }"
        " ... on InvalidInput { issues { path message } } } }",
        input={
            "name": "depths",
            "method": "GRID",
            "pipelineId": ids["training"],
            "datasetVersionId": ids["ready"],
            "objective": {"metric": "accuracy"},
            "space": [{"node": "train", "name": "n_estimators", "type": "INT", "low": 10, "high": 20, "step": 10}],
        },
    )
    ids["study"] = created["study"]["id"]
    query = "query($id: ID!) { study(id: $id) { status bestTrial { id } } }"
    async with asyncio.timeout(90):
        while (study := await ada.one(query, id=ids["study"]))["status"] in {"PENDING", "RUNNING"}:
            await asyncio.sleep(0.1)
    assert study["status"] == "COMPLETED", study
    ids["trial"] = study["bestTrial"]["id"]


FACTORY = Factory(
    ids={"study": Study, "trial": Trial},
    after=("experiments", "models", "pipelines"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    story_statuses=(("Study", "COMPLETED"), ("Trial", "COMPLETED")),
    unfilled=("Study.deletedAt", "Trial.pruning"),  # the trials that tests of edges read completed
)
