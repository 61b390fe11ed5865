"""A whole platform in a few statements: so many datasets, each with a version, a training, a model and their histories."""

from __future__ import annotations

from sqlalchemy import text

from db.core.work import Database

_ROWS = """
INSERT INTO datasets (owner_id, name, modality, source, last_number)
SELECT u.id, 'dataset ' || i, 'tabular', 'upload', 1 FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO dataset_versions (dataset_id, number, status, source, format, size_bytes, row_count, column_count, columns, preview, ready_at)
SELECT id, 1, 'ready', 'upload', 'csv', 10, 2, 1, '[{"name": "x", "type": "integer", "nullable": false}]', '[{"x": 1}, {"x": 2}]', now() FROM datasets;

INSERT INTO dataset_profiles (version_id, profiler_version, generation_time, is_exact, row_count, duplicate_row_count, missing_cell_ratio, report)
SELECT id, '1', 0.1, true, 2, 0, 0, '{"columns": [], "correlations": {}}' FROM dataset_versions;

INSERT INTO pipelines (owner_id, name, modality, status, definition)
SELECT owner_id, 'pipeline ' || row_number() OVER (ORDER BY id), 'tabular', 'validated',
  '{"nodes": [{"key": "data", "step": "dataset", "parameters": {}}], "links": []}' FROM datasets;

INSERT INTO pipeline_snapshots (owner_id, pipeline_id, sha256, definition) SELECT owner_id, id, repeat('a', 64), definition FROM pipelines;

INSERT INTO experiments (owner_id, name, last_number) SELECT owner_id, 'experiment ' || row_number() OVER (ORDER BY id), 1 FROM datasets;

INSERT INTO models (owner_id, name, problem_type, last_number)
SELECT owner_id, 'model ' || row_number() OVER (ORDER BY id), 'classification', 1 FROM datasets;

SET LOCAL session_replication_role = replica;

WITH numbered AS (
  SELECT d.owner_id, d.id AS dataset_id, v.id AS version_id, row_number() OVER (ORDER BY d.id) AS i
  FROM datasets d JOIN dataset_versions v ON v.dataset_id = d.id)
INSERT INTO jobs (owner_id, kind, status, queue, progress, attempt, tries, last_sequence, dataset_id, dataset_version_id, pipeline_id, snapshot_id,
  queued_at, started_at, completed_at)
SELECT n.owner_id, 'train', 'completed', 'tabular', 100, 1, 1, 3, n.dataset_id, n.version_id, p.id, s.id, now(), now(), now()
FROM numbered n JOIN (SELECT id, row_number() OVER (ORDER BY id) AS i FROM pipelines) p USING (i) JOIN pipeline_snapshots s ON s.pipeline_id = p.id;

SET LOCAL session_replication_role = origin;

INSERT INTO job_attempts (job_id, number, worker, ended_at, outcome) SELECT id, 1, 'worker', now(), 'completed' FROM jobs;
INSERT INTO job_nodes (job_id, attempt, key, position, step, status, progress) SELECT id, 1, 'data', 0, 'dataset', 'completed', 100 FROM jobs;
INSERT INTO job_inputs (job_id, dataset_version_id) SELECT id, dataset_version_id FROM jobs;
INSERT INTO job_events (job_id, sequence, attempt, type, status, progress)
SELECT id, s, least(s - 1, 1), (ARRAY['created', 'started', 'completed'])[s], (ARRAY['pending', 'running', 'completed'])[s], (s - 1) * 50
FROM jobs, generate_series(1, 3) s;

WITH numbered AS (SELECT j.*, row_number() OVER (ORDER BY id) AS i FROM jobs j)
INSERT INTO runs (owner_id, experiment_id, number, status, seed, job_id, dataset_version_id, hyperparameters, started_at, completed_at)
SELECT n.owner_id, e.id, 1, 'completed', 7, n.id, n.dataset_version_id, jsonb_build_object('alpha', n.i), now(), now()
FROM numbered n JOIN (SELECT id, row_number() OVER (ORDER BY id) AS i FROM experiments) e USING (i);

INSERT INTO metric_points (run_id, key, step, value, batch) SELECT id, 'accuracy', s, s / 10.0, 2 FROM runs, generate_series(0, 9) s;
INSERT INTO run_metrics (run_id, key, last, last_step, min, min_step, max, max_step, count) SELECT id, 'accuracy', 0.9, 9, 0, 0, 0.9, 9, 10 FROM runs;

WITH numbered AS (SELECT r.id, j.id AS job_id, j.snapshot_id, j.dataset_version_id, row_number() OVER (ORDER BY r.id) AS i FROM runs r JOIN jobs j ON j.id = r.job_id)
INSERT INTO model_versions (model_id, number, algorithm, framework, problem_type, job_id, run_id, snapshot_id, dataset_version_id)
SELECT m.id, 1, 'Ridge', 'scikit-learn', 'classification', n.job_id, n.id, n.snapshot_id, n.dataset_version_id
FROM numbered n JOIN (SELECT id, row_number() OVER (ORDER BY id) AS i FROM models) m USING (i);

INSERT INTO model_alias_events (model_id, model_version_id, name) SELECT model_id, id, 'production' FROM model_versions;
INSERT INTO job_outputs (job_id, position, kind, target_id) SELECT job_id, 0, 'mversion', id FROM model_versions;

INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
SELECT d.owner_id, 'test/' || v.id || '/' || role, 10, md5(v.id::text || role) || repeat('0', 32)
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id, unnest(ARRAY['RAW', 'PROCESSED', 'MODEL']) role;

INSERT INTO artifacts (owner_id, object_id, dataset_version_id, model_version_id, role, filename, content_type)
SELECT o.owner_id, o.id, CASE WHEN role <> 'MODEL' THEN v.id END, CASE WHEN role = 'MODEL' THEN m.id END, role, 'file', 'text/csv'
FROM stored_objects o CROSS JOIN LATERAL (SELECT split_part(o.object_key, '/', 3) AS role, split_part(o.object_key, '/', 2)::uuid AS version) k
JOIN dataset_versions v ON v.id = k.version JOIN model_versions m ON m.dataset_version_id = v.id;
"""


async def fill(database: Database, owner: str, count: int) -> None:
    """Rows of `owner` (a username), `count` of each kind; the tables must be empty but for people. Its jobs have ended already, for which the trigger sleeps."""
    async with database.engine.begin() as connection:
        for statement in _ROWS.split(";\n"):
            if statement.strip():
                await connection.execute(text(statement), {"count": count, "owner": owner} if ":count" in statement else None)
