"""Pipelines: each with the snapshot of a run."""

from __future__ import annotations

from db.tables import Pipeline, PipelineSnapshot
from tests.client import Client
from tests.factories import Example, Factory, Row

_ROWS = """
INSERT INTO pipelines (owner_id, created_by_id, name, modality, status, task_key, definition)
SELECT u.id, u.id, 'pipeline ' || i, 'tabular', 'validated', 'tabular_classification', '{"nodes": [{"key": "data", "step": "dataset", "parameters": {}}], "links": []}'
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO pipeline_snapshots (owner_id, pipeline_id, sha256, definition)
SELECT p.owner_id, p.id, repeat('a', 64), p.definition FROM pipelines p JOIN users u ON u.id = p.owner_id WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO pipelines (owner_id, name, description, modality, status, is_template, definition, deleted_at)
SELECT u.id, name, 'for people', 'text', status, is_template, '{"nodes": [], "links": []}', v.deleted_at FROM users u, (VALUES
  ('Draft', 'draft', false, NULL::timestamptz),
  ('Template', 'draft', true, NULL),
  ('Archived', 'archived', false, NULL),
  ('Deleted', 'validated', false, now())) v(name, status, is_template, deleted_at)
WHERE u.username = :owner;

INSERT INTO pipeline_snapshots (owner_id, sha256, definition)
SELECT u.id, repeat('b', 64), '{"nodes": [], "links": []}' FROM users u WHERE u.username = :owner;
"""

TRAINING = (("data", "dataset", {}), ("train", "train_random_forest", {"target": "label", "n_estimators": 5}))


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    ids["training"] = (await ada.create_pipeline("training", *TRAINING))["pipeline"]["id"]
    ids["processing"] = (await ada.create_pipeline("processing", ("data", "dataset", {}), ("scale", "scale", {})))["pipeline"]["id"]


def _step(key: str) -> Example:
    def fits(pipeline: Row) -> bool:
        return any(node["stepKey"] == key for node in pipeline["definition"]["nodes"])

    return Example(key, "definition { nodes { stepKey } }", fits)


FACTORY = Factory(
    ids={"pipeline": Pipeline, "snapshot": PipelineSnapshot},
    after=("accounts",),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    examples={"PipelineFilter.stepKey": (_step("dataset"), _step("scale"), _step("Scale"))},
)
