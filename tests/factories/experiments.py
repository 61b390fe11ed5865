"""Experiments: each with one run of a training and its metrics; runs in every state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from db.tables import ArtifactUpload, Experiment, Run
from tests.factories import Example, Factory, Row

_ROWS = """
INSERT INTO experiments (owner_id, created_by_id, name, last_number)
SELECT u.id, u.id, 'experiment ' || i, 1 FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

WITH numbered_jobs AS (
  SELECT j.*, row_number() OVER (ORDER BY j.id) AS i FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner AND j.kind = 'train'),
numbered_experiments AS (
  SELECT e.id, row_number() OVER (ORDER BY e.id) AS i FROM experiments e JOIN users u ON u.id = e.owner_id WHERE u.username = :owner)
INSERT INTO runs (owner_id, experiment_id, number, name, notes, status, seed, job_id, dataset_id, dataset_version_id, pipeline_id, hyperparameters, algorithm,
  annotations, architecture, started_at, completed_at)
SELECT j.owner_id, e.id, 1, 'run ' || j.i, 'notes', 'completed', 7, j.id, j.dataset_id, j.dataset_version_id, j.pipeline_id, jsonb_build_object('alpha', j.i), 'Ridge',
  jsonb_build_object('stage', 'draft', 'ticket', j.i::text),
  '{"definition": {"type": "perceptron"}, "hash": "00", "parameterCount": 9, "flops": 16, "sizeBytes": 72}',
  now() - j.i * interval '1 second', now()
FROM numbered_jobs j JOIN numbered_experiments e USING (i);

WITH numbered AS (
  SELECT r.id, row_number() OVER (ORDER BY r.id) AS i, count(*) OVER () AS n FROM runs r JOIN users u ON u.id = r.owner_id WHERE u.username = :owner)
UPDATE runs r SET parent_run_id = p.id, original_run_id = p.id FROM numbered c JOIN numbered p ON p.i = CASE c.i WHEN c.n THEN c.n ELSE 1 END WHERE r.id = c.id;

INSERT INTO run_parameters (run_id, key, number, text)
SELECT r.id, l.key, l.number, l.text FROM runs r JOIN users u ON u.id = r.owner_id, trellis_json_leaves(r.hyperparameters) l
WHERE u.username = :owner ON CONFLICT DO NOTHING;

INSERT INTO run_inputs (run_id, source, name, context, dataset_version_id)
SELECT r.id, 'version_' || replace(r.dataset_version_id::text, '-', ''), 'data', 'training', r.dataset_version_id
FROM runs r JOIN users u ON u.id = r.owner_id WHERE u.username = :owner;

INSERT INTO metric_points (run_id, key, step, value, batch)
SELECT r.id, 'accuracy', s, s / 10.0, 2 FROM runs r JOIN users u ON u.id = r.owner_id, generate_series(0, 9) s WHERE u.username = :owner;

INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, min, min_step, max, max_step, count)
SELECT r.id, r.experiment_id, 'accuracy', 0.9, 9, 0, 0, 0.9, 9, 10 FROM runs r JOIN users u ON u.id = r.owner_id WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO experiments (owner_id, name, description, notes, deleted_at)
SELECT u.id, name, 'for people', 'notes', v.deleted_at FROM users u, (VALUES
  ('Without a run', NULL::timestamptz), ('Every state', NULL), ('Deleted', now())) v(name, deleted_at) WHERE u.username = :owner;

INSERT INTO runs (owner_id, experiment_id, number, name, status, seed, job_id, pipeline_id, hyperparameters, architecture, started_at, completed_at)
SELECT j.owner_id, e.id, row_number() OVER (ORDER BY j.id), 'Run that is ' || j.status, CASE
    WHEN j.status IN ('pending', 'queued') THEN 'pending' WHEN j.status IN ('running', 'cancelling') THEN 'running' ELSE j.status END,
  0, j.id, j.pipeline_id, '{"alpha": "none", "nested": {"beta": null, "gamma": 0.5}}',
  CASE j.status WHEN 'completed' THEN
    '{"definition": {"type": "perceptron"}, "hash": "00", "parameterCount": 9, "flops": 16, "sizeBytes": 72}'::jsonb END, j.started_at, j.completed_at
FROM jobs j JOIN users u ON u.id = j.owner_id JOIN experiments e ON e.owner_id = u.id AND e.name = 'Every state'
WHERE u.username = :owner AND j.kind = 'train' AND NOT EXISTS (SELECT FROM runs r WHERE r.job_id = j.id);

INSERT INTO runs (owner_id, experiment_id, number, name, status, seed, source, parent_run_id, error, started_at, last_written_at, completed_at)
SELECT e.owner_id, e.id, e.number, 'External run', 'failed', 0, 'external', e.parent_id, '{"code": "ABANDONED", "message": "Nothing was logged."}',
  now() - interval '2 days', now() - interval '1 day', now() - interval '1 day'
FROM (SELECT r.owner_id, r.experiment_id AS id, count(*) + 1 AS number, min(r.id::text)::uuid AS parent_id FROM runs r
  JOIN experiments e ON e.id = r.experiment_id JOIN users u ON u.id = e.owner_id WHERE u.username = :owner AND e.name = 'Every state'
  GROUP BY r.owner_id, r.experiment_id) e;

INSERT INTO run_parameters (run_id, key, number, text)
SELECT r.id, l.key, l.number, l.text FROM runs r JOIN users u ON u.id = r.owner_id, trellis_json_leaves(r.hyperparameters) l
WHERE u.username = :owner ON CONFLICT DO NOTHING;

INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, min, min_step, max, max_step, count)
SELECT r.id, r.experiment_id, 'accuracy', CASE r.status WHEN 'failed' THEN 'NaN' ELSE 0.5 END, 1, 0.5, 1, 0.5, 1, 1
FROM runs r JOIN experiments e ON e.id = r.experiment_id JOIN users u ON u.id = r.owner_id
WHERE u.username = :owner AND e.name = 'Every state' AND r.status IN ('running', 'failed');

INSERT INTO artifact_uploads (owner_id, run_id, path, object_key, content_type, size_bytes, due_at)
SELECT r.owner_id, r.id, 'plots/loss.png', 'test/file/' || r.id, 'image/png', 1, now() + interval '1 day'
FROM runs r JOIN users u ON u.id = r.owner_id WHERE u.username = :owner AND r.source = 'external';

INSERT INTO logged_models (run_id, name, model_type, status, parameters, annotations, step)
SELECT r.id, 'net', 'classifier', 'ready', '{"depth": "3"}', '{"stage": "draft"}', 0
FROM runs r JOIN users u ON u.id = r.owner_id WHERE u.username = :owner AND r.source = 'external';

UPDATE experiments e SET last_number = (SELECT count(*) FROM runs r WHERE r.experiment_id = e.id)
FROM users u WHERE u.id = e.owner_id AND u.username = :owner AND e.name = 'Every state';
"""


def _metric(holds: Callable[[float], bool]) -> Callable[[Row], bool]:
    """Return a predicate on the last accuracy; JSON has no NaN, so a value that is not finite is null."""

    def fits(run: Row) -> bool:
        return any(metric["key"] == "accuracy" and metric["last"] is not None and holds(metric["last"]) for metric in run["metrics"])

    return fits


def _parameter(*values: Any) -> Callable[[Row], bool]:
    return lambda run: run["hyperparameters"].get("alpha") in values


def _number(holds: Callable[[float], bool]) -> Callable[[Row], bool]:
    def fits(run: Row) -> bool:
        alpha = run["hyperparameters"].get("alpha")
        return isinstance(alpha, int | float) and holds(alpha)

    return fits


def _durations(bounds: dict[str, float], holds: Callable[[float], bool]) -> Example:
    """A run that has not ended has a duration until now, by which no filter finds it."""
    return Example(bounds, "completedAt duration", lambda run: None not in (run["completedAt"], run["duration"]) and holds(run["duration"]))


def _metrics(bounds: dict[str, Any], holds: Callable[[float], bool]) -> Example:
    return Example([{"key": "accuracy", **bounds}], "metrics { key last }", _metric(holds))


def _parameters(condition: dict[str, Any], fits: Callable[[Row], bool]) -> Example:
    return Example([condition], "hyperparameters", fits)


def _annotations(condition: dict[str, Any], fits: Callable[[Row], bool]) -> Example:
    return Example([condition], "annotations", fits)


FACTORY = Factory(
    ids={"experiment": Experiment, "run": Run, "artifactupload": ArtifactUpload},
    after=("jobs",),
    rows=_ROWS,
    states=_STATES,
    unfilled=("Run.error",),  # the runs that tests of edges read completed
    story_statuses=(("Run", "COMPLETED"), ("Run", "CANCELLED")),  # by the jobs of the story
    examples={
        "RunFilter.metrics": (
            _metrics({}, lambda _: True),
            _metrics({"gte": 0.9}, lambda last: last >= 0.9),
            _metrics({"gte": 0.91}, lambda last: last >= 0.91),
            _metrics({"lte": 0.5}, lambda last: last <= 0.5),
            _metrics({"gte": 0.4, "lte": 0.6}, lambda last: 0.4 <= last <= 0.6),
            Example([{"key": "loss"}], "id", lambda _: False),
        ),
        "RunFilter.parameters": (
            _parameters({"key": "alpha"}, lambda run: "alpha" in run["hyperparameters"]),
            _parameters({"key": "alpha", "eq": 2}, _parameter(2)),
            _parameters({"key": "alpha", "eq": "none"}, _parameter("none")),
            _parameters({"key": "alpha", "in": [1, 3, "nothing"]}, _parameter(1, 3)),
            _parameters({"key": "alpha", "in": []}, _parameter()),
            _parameters({"key": "nested.beta", "eq": None}, lambda run: "nested" in run["hyperparameters"]),
            _parameters({"key": "beta"}, _parameter()),
            _parameters({"key": "alpha", "gte": 2}, _number(lambda alpha: alpha >= 2)),
            _parameters({"key": "alpha", "gte": 1, "lte": 1.5, "in": [1, "none"]}, _number(lambda alpha: alpha == 1)),
            _parameters({"key": "nested.gamma", "lte": 0.5}, lambda run: "nested" in run["hyperparameters"]),
        ),
        "RunFilter.annotations": (
            _annotations({"key": "stage"}, lambda run: "stage" in run["annotations"]),
            _annotations({"key": "ticket", "eq": "1"}, lambda run: run["annotations"].get("ticket") == "1"),
            _annotations({"key": "stage", "eq": "Draft"}, lambda _: False),
        ),
        "RunFilter.algorithm": tuple(
            Example(name, "algorithm", lambda run, name=name: run["algorithm"] == name) for name in ("Ridge", "ridge")
        ),
        "RunFilter.duration": (
            _durations({}, lambda _: True),
            _durations({"gte": 2}, lambda duration: duration >= 2),
            _durations({"gte": 0.5, "lte": 1.5}, lambda duration: 0.5 <= duration <= 1.5),
            _durations({"lte": 0.1}, lambda duration: duration <= 0.1),
        ),
        "ExperimentFilter.algorithm": tuple(
            Example(
                name,
                "runs { edges { node { algorithm } } }",
                lambda experiment, name=name: any(edge["node"]["algorithm"] == name for edge in experiment["runs"]["edges"]),
            )
            for name in ("Ridge", "ridge")
        ),
    },
    arguments={
        "Experiment.bestRun(metric)": '"accuracy"',
        "Run.metric(key)": '"accuracy"',
        "RunOrderKey.metric": '"accuracy"',
        "RunOrderKey.parameter": '"alpha"',
    },
)
