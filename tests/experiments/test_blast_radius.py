"""What depends on data is told with what is in production first."""

from __future__ import annotations

from sqlalchemy import text

from db.core.work import Database
from tests.client import Client

VERSIONS = 4
# Each version of the model comes from a run of a training on the dataset version. Triggers require jobs to begin as pending, so they are off.
ROWS = f"""
SET LOCAL session_replication_role = replica;
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT i, uuidv7() AS job_id, uuidv7() AS run_id, uuidv7() AS version_id, d.owner_id, d.id AS dataset_id, v.id AS dataset_version_id
FROM generate_series(1, {VERSIONS}) i, datasets d JOIN dataset_versions v ON v.dataset_id = d.id ORDER BY i;
INSERT INTO jobs (id, owner_id, kind, status, queue, progress, attempt, last_sequence, dataset_id, dataset_version_id, completed_at)
SELECT job_id, owner_id, 'train', 'completed', 'tabular', 100, 1, 3, dataset_id, dataset_version_id, now() FROM made;
INSERT INTO job_inputs (job_id, dataset_version_id) SELECT job_id, dataset_version_id FROM made;
INSERT INTO experiments (owner_id, name) SELECT id, 'e' FROM users WHERE username = 'ada';
INSERT INTO runs (id, owner_id, experiment_id, number, status, seed, job_id, dataset_version_id)
SELECT run_id, m.owner_id, e.id, i, 'completed', 0, job_id, dataset_version_id FROM made m, experiments e;
INSERT INTO models (owner_id, name) SELECT id, 'm' FROM users WHERE username = 'ada';
INSERT INTO model_versions (id, model_id, number, algorithm, framework, run_id, job_id) SELECT version_id, m.id, i, 'a', 'f', run_id, job_id FROM made, models m;
INSERT INTO model_alias_events (model_id, model_version_id, name, superseded_at)
SELECT m.id, version_id, a.name, superseded_at FROM made, models m, (VALUES
  (1, 'production', now()), (2, 'staging', NULL), (3, 'production', NULL), (3, 'champion', NULL)) a(number, name, superseded_at) WHERE number = i;
"""
LINEAGE = """query($id: ID!, $direction: LineageDirection!, $depth: Int!, $maxNodes: Int!) {
  lineage(id: $id, direction: $direction, depth: $depth, maxNodes: $maxNodes) { isPartial nodes { kind label aliases isInProduction depth } } }"""


async def test_what_is_in_production_comes_first_and_is_not_cut_off(ada: Client, bob: Client, database: Database) -> None:
    await ada.create_dataset("d")
    async with database.engine.begin() as connection:
        version = (
            "INSERT INTO dataset_versions (dataset_id, number, status, source) SELECT id, 1, 'ready', 'upload' FROM datasets RETURNING id"
        )
        version_id = (await connection.execute(text(version))).scalar_one()
        for statement in filter(str.strip, ROWS.split(";\n")):
            await connection.execute(text(statement))
    arguments = {"id": f"version_{version_id.hex}", "direction": "DOWNSTREAM", "depth": 3, "maxNodes": 100}
    told = await ada.one(LINEAGE, **arguments)
    assert told["isPartial"] is False
    assert [node["depth"] for node in told["nodes"]] == [0] + [1] * VERSIONS + [2] * VERSIONS + [3] * VERSIONS
    models = [(node["label"], node["aliases"], node["isInProduction"]) for node in told["nodes"] if node["kind"] == "MODEL_VERSION"]
    in_production = ("m v3", ["champion", "production"], True)
    assert models == [in_production, ("m v1", [], False), ("m v2", ["staging"], False), ("m v4", [], False)]
    assert not any(node["isInProduction"] for node in told["nodes"] if node["kind"] != "MODEL_VERSION")

    cut = await ada.one(LINEAGE, **{**arguments, "maxNodes": 2 + 2 * VERSIONS})
    models = [(node["label"], node["aliases"], node["isInProduction"]) for node in cut["nodes"] if node["kind"] == "MODEL_VERSION"]
    assert (cut["isPartial"], models) == (True, [in_production])
    assert await bob.one(LINEAGE, **arguments) is None
