"""A database of many owners and rows, made by PostgreSQL itself: one thousand owners, 200 thousand jobs and model versions, 2 million runs with
5 metrics each and 10 million metric points, or a share of that.

Every tenth row is the heavy owner's, and every fiftieth is under one dataset, experiment, model and pipeline. The other owners have equally
many rows at every size. Each filterable column has values that are frequent, rare and absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import asyncpg

FULL = 200_000  # jobs
LIGHT, HEAVY = "light", "heavy"
TOKENS = {"owner": "the-token-of-the-light-owner", "heavy owner": "the-token-of-the-heavy-owner"}
RARE = "zebra"
"""A word in the name of every 2,000th row."""


@dataclass(frozen=True)
class Size:
    """How many rows each table gets."""

    jobs: int

    @property
    def owners(self) -> int:
        return max(self.jobs // 200, 10)

    @property
    def datasets(self) -> int:
        return max(self.jobs // 20, 40)

    @property
    def experiments(self) -> int:
        return max(self.jobs // 10, 40)

    @property
    def models(self) -> int:
        return max(self.jobs // 4, 40)

    @property
    def runs(self) -> int:
        return self.jobs * 10


# A uuidv7 of a row: its time, its table and its number. Rows of a table lie evenly in a year.
_FUNCTIONS = (
    """CREATE FUNCTION pg_temp.at(i bigint, rows bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
      SELECT timestamptz '2025-06-01' + interval '1 year' * (i::float8 / rows) $$""",
    """CREATE FUNCTION pg_temp.id(kind int, i bigint, rows bigint) RETURNS uuid LANGUAGE sql STABLE AS $$
      SELECT (lpad(to_hex((extract(epoch FROM timestamptz '2025-06-01' + interval '1 year' * (i::float8 / rows)) * 1000)::bigint), 12, '0')
        || '7' || lpad(to_hex(kind), 3, '0') || '8' || lpad(to_hex(i), 15, '0'))::uuid $$""",
    """CREATE FUNCTION pg_temp.owner(i bigint, owners bigint) RETURNS uuid LANGUAGE sql STABLE AS $$
      SELECT pg_temp.id(1, CASE WHEN i % 10 = 0 THEN 0 ELSE 1 + i * 7919 % (owners - 1) END, owners) $$""",
    """CREATE FUNCTION pg_temp.name(i bigint) RETURNS text LANGUAGE sql STABLE AS $$
      SELECT (ARRAY['Alder','birch','cedar','elm','fir','hazel','larch','maple','oak','pine'])[1 + (hashint8(i) & 1023) % 10] || ' survey '
        || CASE WHEN i % 2000 = 1 OR i = 10 THEN 'zebra ' ELSE '' END || i $$""",
)

_ROWS = (
    """INSERT INTO users (id, email, username, full_name, role, tier, disabled_at, last_login_at, created_at)
      SELECT pg_temp.id(1, i, :owners), CASE i WHEN 0 THEN 'heavy' WHEN 1 THEN 'light' ELSE 'u' || i END || '@example.org',
        CASE i WHEN 0 THEN 'heavy' WHEN 1 THEN 'light' ELSE 'u' || i END, pg_temp.name(i), CASE WHEN i % 200 = 3 THEN 'viewer' ELSE 'member' END,
        CASE WHEN i % 100 = 5 THEN 'pro' ELSE 'free' END, CASE WHEN i % 100 = 7 THEN pg_temp.at(i, :owners) END,
        CASE WHEN i % 2 = 0 THEN pg_temp.at(hashint8(i) & 1048575, 1048576) END, pg_temp.at(i, :owners)
      FROM generate_series(0, :owners - 1) i""",
    """INSERT INTO datasets (id, owner_id, name, modality, problem_type, source, created_at, updated_at, last_number)
      SELECT pg_temp.id(2, i, :datasets), pg_temp.owner(i, :owners), pg_temp.name(i), CASE WHEN i % 500 = 3 THEN 'signal' ELSE 'tabular' END,
        CASE WHEN i % 3 = 0 THEN NULL WHEN i % 900 = 7 THEN 'clustering' ELSE 'regression' END,
        CASE WHEN i % 700 = 5 THEN 'derived' ELSE 'upload' END, pg_temp.at(i, :datasets), pg_temp.at(hashint8(i) & 1048575, 1048576), 1
      FROM generate_series(0, :datasets - 1) i""",
    """INSERT INTO pipelines (id, owner_id, name, modality, status, is_template, definition, created_at, updated_at)
      SELECT pg_temp.id(3, i, :pipelines), pg_temp.owner(i, :owners), pg_temp.name(i), CASE WHEN i % 500 = 3 THEN 'signal' ELSE 'tabular' END,
        CASE WHEN i % 800 = 9 THEN 'archived' WHEN i % 5 = 0 THEN 'draft' ELSE 'validated' END, i % 1000 = 11,
        CASE WHEN i % 900 = 13 THEN '{"nodes": [{"key": "d", "step": "dataset"}, {"key": "r", "step": "rare"}], "links": []}'
          ELSE '{"nodes": [{"key": "d", "step": "dataset"}], "links": []}' END::jsonb,
        pg_temp.at(i, :pipelines), pg_temp.at(hashint8(i) & 1048575, 1048576)
      FROM generate_series(0, :pipelines - 1) i""",
    """INSERT INTO pipeline_snapshots (id, owner_id, pipeline_id, sha256, definition, created_at)
      SELECT pg_temp.id(4, i, :pipelines), pg_temp.owner(p, :owners), pg_temp.id(3, p, :pipelines), lpad(to_hex(i), 64, '0'),
        '{"nodes": [], "links": []}', pg_temp.at(i, :pipelines)
      FROM generate_series(0, :pipelines - 1) i, LATERAL (SELECT CASE WHEN i % 50 = 0 THEN 0 ELSE i END AS p) parent""",
    """INSERT INTO experiments (id, owner_id, name, created_at, updated_at, last_number)
      SELECT pg_temp.id(5, i, :experiments), pg_temp.owner(i, :owners), pg_temp.name(i), pg_temp.at(i, :experiments),
        pg_temp.at(hashint8(i) & 1048575, 1048576), 100
      FROM generate_series(0, :experiments - 1) i""",
    """INSERT INTO models (id, owner_id, name, problem_type, created_at, updated_at, last_number)
      SELECT pg_temp.id(6, i, :models), pg_temp.owner(i, :owners), pg_temp.name(i),
        CASE WHEN i % 3 = 0 THEN NULL WHEN i % 900 = 7 THEN 'clustering' ELSE 'regression' END, pg_temp.at(i, :models),
        pg_temp.at(hashint8(i) & 1048575, 1048576), 4
      FROM generate_series(0, :models - 1) i""",
    """INSERT INTO dataset_versions (id, dataset_id, number, status, source, created_at)
      SELECT pg_temp.id(7, i, :jobs / 5), pg_temp.id(2, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :datasets END, :datasets), i + 1,
        'ready', 'upload', pg_temp.at(i, :jobs / 5)
      FROM generate_series(0, :jobs / 5 - 1) i""",
    """INSERT INTO dataset_items (id, version_id, key, label, split, severity, size_bytes, sha256, content_type, has_issues, rms, peak, width,
        byte_offset, stored_size, storage, in_pack)
      SELECT pg_temp.id(20, i, :jobs), pg_temp.id(7, CASE WHEN i % 2 = 0 THEN 0 ELSE i % (:jobs / 5) END, :jobs / 5), pg_temp.name(i),
        CASE WHEN i % 3 = 0 THEN 'fault' ELSE 'normal' END, CASE WHEN i % 4 = 0 THEN 'train' ELSE 'test' END,
        CASE WHEN i % 100 = 0 THEN 'high' END, i, repeat('0', 64), 'text/csv', i % 200 = 0, (hashint8(i) & 1023) / 1023.0,
        (hashint8(i + 1) & 1023) / 1023.0, CASE WHEN i % 50 = 0 THEN i END, i, 100, 'stored', false
      FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO schema_proposals (version_id, dataset_id, status, confidence, agent, created_at)
      SELECT v.id, v.dataset_id, 'superseded', 0.5, 'rules/1', pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i
      JOIN dataset_versions v ON v.id = pg_temp.id(7, CASE WHEN i % 2 = 0 THEN 0 ELSE i % (:jobs / 5) END, :jobs / 5)""",
    """INSERT INTO jobs (id, owner_id, kind, status, queue, priority, dataset_id, dataset_version_id, pipeline_id, snapshot_id, error,
        completed_at, created_at, updated_at)
      SELECT pg_temp.id(8, i, :jobs), pg_temp.owner(d, :owners),
        CASE WHEN i % 1000 = 3 THEN 'profile' WHEN kind < 30 THEN 'ingest' WHEN kind < 50 THEN 'process' ELSE 'train' END, status,
        CASE WHEN i % 2000 = 9 THEN 'signal' WHEN kind < 30 THEN 'upload' ELSE 'tabular' END, CASE WHEN i % 1000 = 1 THEN 9 ELSE 4 + i % 3 END,
        pg_temp.id(2, d, :datasets), pg_temp.id(7, CASE WHEN i % 50 = 0 THEN 0 ELSE i % (:jobs / 5) END, :jobs / 5), pg_temp.id(3, d, :pipelines),
        pg_temp.id(4, d, :pipelines), CASE status WHEN 'failed' THEN '{"code": "BAD_INPUT", "message": "m", "retryable": false}'::jsonb END,
        CASE WHEN status IN ('completed', 'failed', 'cancelled') THEN pg_temp.at(i, :jobs) END, pg_temp.at(i, :jobs), pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i,
        LATERAL (SELECT CASE WHEN i % 50 = 0 THEN 0 ELSE i % :datasets END AS d, hashint8(i + 7) & 63 AS kind,
          CASE WHEN i % 2000 = 7 THEN 'pending' WHEN hashint8(i) & 15 = 1 THEN 'failed' WHEN hashint8(i) & 63 = 2 THEN 'cancelled'
            ELSE 'completed' END AS status) derived""",
    "INSERT INTO job_inputs (job_id, dataset_version_id) SELECT id, dataset_version_id FROM jobs",
    """INSERT INTO pipeline_inputs (pipeline_id, dataset_id, created_at)
      SELECT pg_temp.id(3, i, :pipelines), pg_temp.id(2, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :datasets END, :datasets), pg_temp.at(i, :pipelines)
      FROM generate_series(0, :pipelines - 1) i""",
    """INSERT INTO job_events (job_id, sequence, attempt, type, status, progress, created_at)
      SELECT pg_temp.id(8, i, :jobs), n, 0, CASE n WHEN 1 THEN 'created' ELSE 'progress' END, 'pending', 0, pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i, LATERAL generate_series(1, CASE i WHEN 0 THEN :jobs / 10 ELSE 2 END) n""",
    """INSERT INTO studies (id, owner_id, name, kind, method, status, ends_as, completed_at, experiment_id, snapshot_id, dataset_version_id, input_version_ids,
        metric, goal, seed, max_trials, max_parallel, max_failed, trials_total, created_at, updated_at)
      SELECT pg_temp.id(22, i, :experiments), pg_temp.owner(i, :owners), pg_temp.name(i), 'hpo', 'random', CASE WHEN i % 800 = 9 THEN 'paused' ELSE 'completed' END,
        CASE WHEN i % 800 <> 9 THEN 'completed' END, CASE WHEN i % 800 <> 9 THEN pg_temp.at(i, :experiments) END, pg_temp.id(5, i, :experiments),
        pg_temp.id(4, 0, :pipelines), pg_temp.id(7, 0, :jobs / 5), '{}', 'loss', 'minimize', 1, 100, 1, 1, 100, pg_temp.at(i, :experiments),
        pg_temp.at(hashint8(i) & 1048575, 1048576)
      FROM generate_series(0, :experiments - 1) i""",
    """INSERT INTO runs (id, owner_id, experiment_id, study_id, dataset_id, dataset_version_id, pipeline_id, number, name, status, hyperparameters, seed, algorithm,
        created_at, started_at, completed_at)
      SELECT pg_temp.id(9, i, :runs), pg_temp.owner(e, :owners), pg_temp.id(5, e, :experiments), CASE WHEN i % 2 = 0 THEN pg_temp.id(22, e, :experiments) END,
        pg_temp.id(2, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :datasets END, :datasets),
        pg_temp.id(7, CASE WHEN i % 50 = 0 THEN 0 ELSE i % (:jobs / 5) END, :jobs / 5),
        pg_temp.id(3, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :pipelines END, :pipelines), i + 1, CASE WHEN i % 10 = 3 THEN pg_temp.name(i) END,
        CASE WHEN i % 20000 = 7 THEN 'running' WHEN hashint8(i) & 15 = 1 THEN 'failed' ELSE 'completed' END,
        jsonb_build_object('train', jsonb_build_object('alpha', i % 100, 'rare', i % 20000), 'model', CASE i % 2 WHEN 0 THEN 'ridge' ELSE 'lasso' END),
        i, CASE WHEN i % 2000 = 1 THEN 'rare' WHEN i % 20 = 2 THEN NULL ELSE 'ridge' END, pg_temp.at(i, :runs), pg_temp.at(i, :runs),
        CASE WHEN i % 20000 <> 7 THEN pg_temp.at(i, :runs) + (hashint8(i) & 1048575) / 10000.0 * interval '1 second' END
      FROM generate_series(0::bigint, :runs - 1) i, LATERAL (SELECT CASE WHEN i % 50 = 0 THEN 0 ELSE i % :experiments END AS e) derived""",
    """INSERT INTO run_parameters (run_id, key, number, text)
      SELECT r.id, l.key, l.number, l.text FROM runs r, trellis_json_leaves(r.hyperparameters) l""",
    """INSERT INTO run_metrics (run_id, experiment_id, key, last, last_step, min, min_step, max, max_step, count)
      SELECT pg_temp.id(9, i, :runs), pg_temp.id(5, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :experiments END, :experiments), key, value, 5, value, 5, 1, 1, 5
      FROM generate_series(0::bigint, :runs - 1) i, LATERAL unnest(ARRAY['accuracy', 'auc', 'f1', 'loss', CASE WHEN i % 20000 = 10 THEN 'rare' ELSE 'mae' END])
        WITH ORDINALITY k(key, n), LATERAL (SELECT (hashint8(i * 8 + n) & 16777215) / 16777216.0 AS value) derived""",
    """INSERT INTO metric_points (run_id, key, step, value, batch, recorded_at)
      SELECT pg_temp.id(9, i, :runs), key, step, step, step, pg_temp.at(i, :runs)
      FROM generate_series(0::bigint, :runs / 4 - 1) i, unnest(ARRAY['accuracy', 'loss', 'mae', 'auc']) key, generate_series(1, 5) step""",
    """INSERT INTO model_versions (id, model_id, number, algorithm, framework, problem_type, created_at)
      SELECT pg_temp.id(10, i, :jobs), pg_temp.id(6, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :models END, :models), i + 1,
        CASE WHEN i % 2000 = 1 THEN 'rare' ELSE 'ridge' END, 'scikit-learn',
        'regression', pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO model_datasets (model_id, dataset_id, created_at)
      SELECT pg_temp.id(6, i, :models), pg_temp.id(2, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :datasets END, :datasets), pg_temp.at(i, :models)
      FROM generate_series(0, :models - 1) i""",
    """INSERT INTO model_alias_events (model_id, model_version_id, name)
      SELECT pg_temp.id(6, m, :models), pg_temp.id(10, m, :jobs), CASE WHEN m % 2000 = 1 THEN 'rare' ELSE 'production' END
      FROM generate_series(1, :models - 1) m WHERE m % 50 <> 0 AND (m % 3 = 0 OR m % 2000 = 1)""",
    """INSERT INTO exports (id, owner_id, job_id, dataset_version_id, format, created_at)
      SELECT uuidv7(), owner_id, id, dataset_version_id, CASE WHEN row_number() OVER (ORDER BY id) % 100 = 1 THEN 'parquet' ELSE 'csv' END, created_at
      FROM jobs WHERE dataset_version_id IS NOT NULL""",
    """INSERT INTO credit_transactions (owner_id, sequence, kind, amount, held, balance_after, held_after, job_id, created_at)
      SELECT owner_id, row_number() OVER (PARTITION BY owner_id ORDER BY id), CASE WHEN is_rare THEN 'refund' ELSE 'consumption' END,
        CASE WHEN is_rare THEN 1 ELSE 0 END, CASE WHEN is_rare THEN 0 ELSE -1 END, 0, 0, id, created_at
      FROM (SELECT id, owner_id, created_at, row_number() OVER (ORDER BY id) % 100 = 1 AS is_rare FROM jobs) numbered""",
    """INSERT INTO explanations (id, owner_id, job_id, model_version_id, run_id, dataset_version_id, item_id, method, created_at)
      SELECT uuidv7(), pg_temp.owner(i, :owners), pg_temp.id(8, i, :jobs), pg_temp.id(10, CASE WHEN i % 2 = 0 THEN 0 ELSE i END, :jobs),
        pg_temp.id(9, CASE WHEN i % 2 = 0 THEN 0 ELSE i % :runs END, :runs), pg_temp.id(7, i % (:jobs / 5), :jobs / 5),
        pg_temp.id(20, CASE WHEN i % 2 = 0 THEN 0 ELSE i END, :jobs), 'permutation', pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO tags (id, owner_id, name, slug, color, usage_count, created_at)
      SELECT pg_temp.id(21, i * 2 + rare, :owners * 2), pg_temp.id(1, i, :owners), name, name, '#1f77b4', i % 100, pg_temp.at(i, :owners)
      FROM generate_series(0, :owners - 1) i, (VALUES (0, 'frequent'), (1, 'rare')) v(rare, name)""",
    *(
        f"""INSERT INTO taggings ({table.removesuffix("s")}_id, tag_id)
          SELECT r.id, t.id FROM (SELECT id, owner_id, row_number() OVER (ORDER BY id) AS i FROM {table}) r
          JOIN tags t ON t.owner_id = r.owner_id AND t.name = CASE WHEN r.i % 2000 = 1 THEN 'rare' ELSE 'frequent' END WHERE r.i % 3 = 1"""
        for table in ("datasets", "pipelines", "experiments", "models", "runs")
    ),
    """INSERT INTO trials (study_id, number, status, job_id, run_id, parameters, value, completed_at, created_at)
      SELECT pg_temp.id(22, CASE WHEN i % 2 = 0 THEN 0 ELSE i % :experiments END, :experiments), i + 1, CASE WHEN i % 700 = 5 THEN 'pruned' ELSE 'completed' END,
        pg_temp.id(8, i, :jobs), pg_temp.id(9, i, :runs), '{}', (hashint8(i) & 1023) / 1023.0, pg_temp.at(i, :jobs), pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO audit_events (id, actor_id, owner_id, action, subject_id, origin, created_at)
      SELECT pg_temp.id(11, i, :jobs), CASE WHEN i % 1000 = 3 THEN NULL ELSE owner END, owner, CASE WHEN i % 100 = 1 THEN 'login' ELSE 'create_dataset' END,
        'dataset_' || replace(pg_temp.id(2, CASE WHEN i % 50 = 0 THEN 0 ELSE i % :datasets END, :datasets)::text, '-', ''), 'api', pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i, LATERAL (SELECT pg_temp.owner(i, :owners) AS owner) derived""",
    """INSERT INTO webhook_endpoints (id, owner_id, name, url, provider, events, secret, created_at)
      SELECT pg_temp.id(23, i, :owners), pg_temp.id(1, i, :owners), 'receiver', 'https://example.org', 'generic', ARRAY['job_failed'], '', pg_temp.at(i, :owners)
      FROM generate_series(0, :owners - 1) i""",
    """INSERT INTO webhook_deliveries (endpoint_id, event_id, event_type, subject_id, status, created_at)
      SELECT w.id, j.id, 'job_failed', 'job_' || replace(j.id::text, '-', ''), CASE WHEN row_number() OVER (ORDER BY j.id) % 100 = 1 THEN 'failed' ELSE 'delivered' END,
        j.created_at
      FROM jobs j JOIN webhook_endpoints w ON w.owner_id = j.owner_id""",
    """INSERT INTO notifications (recipient_id, account_id, sequence, type, subject_id, read_at, created_at)
      SELECT owner_id, owner_id, row_number() OVER (PARTITION BY owner_id ORDER BY id), CASE WHEN is_rare THEN 'quota_near' ELSE 'version_ready' END,
        'job_' || replace(id::text, '-', ''), CASE WHEN NOT is_rare THEN created_at END, created_at
      FROM (SELECT id, owner_id, created_at, row_number() OVER (ORDER BY id) % 100 = 1 AS is_rare FROM jobs) numbered""",
    """INSERT INTO email_messages (user_id, account_id, address, template, status, event_type, created_at)
      SELECT owner_id, owner_id, 'a@example.org', 'event', CASE WHEN is_rare THEN 'failed' ELSE 'sent' END,
        CASE WHEN is_rare THEN 'credits_low' ELSE 'job_failed' END, created_at
      FROM (SELECT id, owner_id, created_at, row_number() OVER (ORDER BY id) % 100 = 1 AS is_rare FROM jobs) numbered""",
    """INSERT INTO login_events (user_id, method, succeeded, created_at)
      SELECT pg_temp.owner(i, :owners), 'password', true, pg_temp.at(i, :jobs) FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO deletions (id, owner_id, kind, name, restorable_until, created_at)
      SELECT pg_temp.id(24, i, :jobs), pg_temp.owner(i, :owners), 'run', pg_temp.name(i),
        CASE WHEN i % 100 = 1 THEN pg_temp.at(i, :jobs) ELSE timestamptz '2100-01-01' END, pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO stored_objects (id, owner_id, object_key, size_bytes, sha256, reference_count)
      SELECT pg_temp.id(25, i, :jobs), pg_temp.owner(i, :owners), 'runs/' || i, i, lpad(to_hex(i), 64, '0'), 1 FROM generate_series(0, :jobs - 1) i""",
    """INSERT INTO artifacts (owner_id, object_id, run_id, path, role, filename, content_type, created_at)
      SELECT r.owner_id, pg_temp.id(25, i, :jobs), r.id, 'plots/' || i || '.png', 'FILE', i || '.png', 'image/png', pg_temp.at(i, :jobs)
      FROM generate_series(0, :jobs - 1) i JOIN runs r ON r.id = pg_temp.id(9, CASE WHEN i % 2 = 0 THEN 0 ELSE i END, :runs)""",
)
_REQUESTS = """INSERT INTO api_requests (id, created_at, user_id, api_key_id, operation_kind, cost, duration, request_bytes, response_bytes)
  SELECT pg_temp.id(12, i, :jobs), pg_temp.at(i, :jobs), owner, k.id, 'query', 1, 0.01, 100, 1000
  FROM generate_series(0, :jobs - 1) i, LATERAL (SELECT pg_temp.owner(i, :owners) AS owner) derived LEFT JOIN api_keys k ON k.user_id = owner"""
_LARGE = ("runs", "run_metrics", "run_parameters", "metric_points")  # whose indexes are made after their rows

_INDEXES = """SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition FROM pg_index i
  WHERE i.indrelid::regclass::text = ANY($1) AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)"""


async def fill(url: str, size: Size) -> None:
    """Fill a migrated database without rows, with current statistics and visibility maps."""
    connect: Any = asyncpg.connect
    connection = await connect(url, statement_cache_size=0)
    try:
        await connection.execute("SET session_replication_role = replica; SET maintenance_work_mem = '512MB'; SET synchronous_commit = off")
        for function in _FUNCTIONS:
            await connection.execute(function)
        indexes = await connection.fetch(_INDEXES, list(_LARGE))
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        numbers = {
            "owners": size.owners,
            "datasets": size.datasets,
            "pipelines": size.datasets * 5,
            "experiments": size.experiments,
            "models": size.models,
            "jobs": size.jobs,
            "runs": size.runs,
        }
        for statement in _ROWS:
            for name, number in numbers.items():
                statement = statement.replace(f":{name}", str(number))  # noqa: PLW2901 - a number in place of each name
            await connection.execute(statement)
        for index in indexes:
            await connection.execute(index["definition"])
        for who, name in (("owner", LIGHT), ("heavy owner", HEAVY)):
            await connection.execute(
                "INSERT INTO api_keys (user_id, name, prefix, token_sha256) SELECT id, 'bench', 'bench', sha256($2::text::bytea) FROM users"
                " WHERE username = $1",
                name,
                TOKENS[who],
            )
        await connection.execute(_REQUESTS.replace(":jobs", str(size.jobs)).replace(":owners", str(size.owners)))
        await connection.execute("RESET session_replication_role")
        await connection.execute("VACUUM (FREEZE, ANALYZE)")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
