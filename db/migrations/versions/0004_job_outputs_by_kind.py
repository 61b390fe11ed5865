"""Job outputs by kind: a kind and an id instead of a nullable foreign key for each kind."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db.migrations.functions import drop_function, install_function
from db.migrations.outputs import guard_outputs, unguard_outputs

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# kind, the column that held it before, the table of its rows, what a delete of such a row does
OUTPUTS = (
    ("version", "dataset_version_id", "dataset_versions", "restrict"),
    ("profile", "profile_id", "dataset_profiles", "cascade"),
    ("mversion", "model_version_id", "model_versions", "restrict"),
    ("artifact", "artifact_id", "artifacts", "cascade"),
)
COLUMNS = ", ".join(column for _, column, _, _ in OUTPUTS)


def upgrade() -> None:
    op.add_column("job_outputs", sa.Column("kind", sa.Text(), nullable=True))
    op.add_column("job_outputs", sa.Column("target_id", sa.Uuid(), nullable=True))
    cases = " ".join(f"WHEN {column} IS NOT NULL THEN '{kind}'" for kind, column, _, _ in OUTPUTS)
    op.execute(f"UPDATE job_outputs SET kind = CASE {cases} END, target_id = coalesce({COLUMNS})")  # noqa: S608 - frozen above
    op.drop_constraint(op.f("ck_job_outputs_is_one_thing"), "job_outputs")
    for _, column, _, _ in OUTPUTS:
        op.drop_column("job_outputs", column)  # with its foreign key and its index
    op.alter_column("job_outputs", "kind", nullable=False)
    op.alter_column("job_outputs", "target_id", nullable=False)
    op.create_unique_constraint(op.f("uq_job_outputs_kind_target_id"), "job_outputs", ["kind", "target_id"])
    install_function(op, "trellis_guard_output", revision)
    for kind, _, table, on_delete in OUTPUTS:
        guard_outputs(op, table, kind, on_delete)


def downgrade() -> None:
    for _, _, table, _ in OUTPUTS:
        unguard_outputs(op, table)
    drop_function(op, "trellis_guard_output")
    for kind, column, table, on_delete in OUTPUTS:
        op.add_column("job_outputs", sa.Column(column, sa.Uuid(), nullable=True))
        op.execute(f"UPDATE job_outputs SET {column} = target_id WHERE kind = '{kind}'")  # noqa: S608 - frozen above
        op.create_foreign_key(op.f(f"fk_job_outputs_{column}"), "job_outputs", table, [column], ["id"], ondelete=on_delete.upper())
        op.create_index(op.f(f"ix_job_outputs_{column}"), "job_outputs", [column], unique=False)
    op.drop_constraint(op.f("uq_job_outputs_kind_target_id"), "job_outputs")
    op.drop_column("job_outputs", "target_id")
    op.drop_column("job_outputs", "kind")
    op.create_check_constraint("is_one_thing", "job_outputs", f"num_nonnulls({COLUMNS}) = 1")
