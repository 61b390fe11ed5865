"""Indexes with which each list is read in its order, or found by its filter, however many rows the table has.

It takes about a minute for each million runs, whose rows are written anew. The planner does not use the statistics of a partial index, so the
names, compared in lower case, have some of their own.
"""

from __future__ import annotations

from alembic import op

from db.migrations.functions import drop_function, install_function

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

LIVE = " WHERE deleted_at IS NULL"
NEWEST = "created_at DESC, id DESC"
NAMED = ("datasets", "pipelines", "experiments", "models")
ADDED = {
    **{f"ix_{table}_updated_at": f"{table} (updated_at DESC, id DESC){LIVE}" for table in NAMED},
    **{f"ix_{table}_name": f"{table} (lower(name), id){LIVE}" for table in NAMED},
    **{f"ix_{table}_name_trigrams": f"{table} USING gin (lower(name) gin_trgm_ops){LIVE}" for table in NAMED},
    **{f"ix_datasets_{column}_created_at": f"datasets ({column}, {NEWEST}){LIVE}" for column in ("modality", "problem_type", "source")},
    **{f"ix_pipelines_{column}_created_at": f"pipelines ({column}, {NEWEST}){LIVE}" for column in ("modality", "status", "is_template")},
    "ix_models_problem_type_created_at": f"models (problem_type, {NEWEST}){LIVE}",
    "ix_model_alias_events_name": "model_alias_events (name, model_id) WHERE superseded_at IS NULL",
    "ix_pipeline_snapshots_pipeline_id_created_at": f"pipeline_snapshots (pipeline_id, {NEWEST})",
    "ix_jobs_owner_id_status_created_at": f"jobs (owner_id, status, {NEWEST})",
    **{
        f"ix_jobs_{column}_created_at": f"jobs ({column}, {NEWEST})"
        for column in ("kind", "status", "queue", "dataset_id", "dataset_version_id", "pipeline_id")
    },
    "ix_runs_status_created_at": f"runs (status, {NEWEST})",
    "ix_runs_number": "runs (number, id)",
    "ix_runs_hyperparameter_paths": "runs USING gin (hyperparameter_paths)",
}
CHANGED = {
    "ix_jobs_priority": ("jobs (priority DESC, id DESC)", "jobs (priority DESC, id DESC, created_at)"),
    "ix_jobs_owner_id_priority": ("jobs (owner_id, priority DESC, id DESC)", "jobs (owner_id, priority DESC, id DESC, created_at)"),
}
# Another index begins with the same columns.
DROPPED = {
    "ix_pipeline_snapshots_pipeline_id": "pipeline_snapshots (pipeline_id)",
    "ix_dataset_versions_dataset_id": "dataset_versions (dataset_id)",
    "ix_model_versions_model_id": "model_versions (model_id)",
    "ix_model_alias_events_model_id": "model_alias_events (model_id)",
    "ix_runs_owner_id": "runs (owner_id)",
    "ix_runs_experiment_id": "runs (experiment_id)",
    **{f"ix_jobs_{column}": f"jobs ({column})" for column in ("owner_id", "dataset_id", "dataset_version_id", "pipeline_id")},
}


def upgrade() -> None:
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    install_function(op, "trellis_json_paths", revision)
    op.execute("ALTER TABLE runs ADD COLUMN hyperparameter_paths text[] GENERATED ALWAYS AS (trellis_json_paths(hyperparameters)) STORED")
    for name, definition in ADDED.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")
    for name in DROPPED:
        op.execute(f"DROP INDEX {name}")
    for name, (_, definition) in CHANGED.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON {definition}")
    for table in NAMED:
        op.execute(f"CREATE STATISTICS st_{table}_lower_name ON (lower(name)) FROM {table}")
        op.execute(f"ANALYZE {table}")


def downgrade() -> None:
    for table in NAMED:
        op.execute(f"DROP STATISTICS st_{table}_lower_name")
    for name, (definition, _) in CHANGED.items():
        op.execute(f"DROP INDEX {name}")
        op.execute(f"CREATE INDEX {name} ON {definition}")
    for name, definition in DROPPED.items():
        op.execute(f"CREATE INDEX {name} ON {definition}")
    for name in ADDED:
        op.execute(f"DROP INDEX {name}")
    op.execute("ALTER TABLE runs DROP COLUMN hyperparameter_paths")
    drop_function(op, "trellis_json_paths")
    op.execute("DROP EXTENSION pg_trgm")
