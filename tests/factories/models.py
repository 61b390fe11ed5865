"""Models: each with one version from a training, its file, and the alias `production`."""

from __future__ import annotations

from db.tables import Model, ModelAliasEvent, ModelVersion
from tests.client import Client
from tests.factories import Example, Factory, Row

_ROWS = """
INSERT INTO models (owner_id, created_by_id, name, problem_type, last_number)
SELECT u.id, u.id, 'model ' || i, 'classification', 1 FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

WITH numbered_runs AS (
  SELECT r.id, j.id AS job_id, j.snapshot_id, j.dataset_version_id, row_number() OVER (ORDER BY r.id) AS i
  FROM runs r JOIN jobs j ON j.id = r.job_id JOIN users u ON u.id = r.owner_id WHERE u.username = :owner),
numbered_models AS (
  SELECT m.id, row_number() OVER (ORDER BY m.id) AS i FROM models m JOIN users u ON u.id = m.owner_id WHERE u.username = :owner)
INSERT INTO model_versions (
  model_id, number, label, description, algorithm, framework, packages, format, is_trusted, seed, problem_type, metrics, job_id, run_id, snapshot_id, dataset_version_id)
SELECT m.id, 1, 'first', 'for people', 'Ridge', 'scikit-learn', '{"python": "3.13.1", "scikit-learn": "1.8.0"}', 'skops', true, 7, 'classification',
  '[{"key": "accuracy", "last": 0.9, "last_step": 9, "min": 0, "min_step": 0, "max": 0.9, "max_step": 9, "count": 10}]',
  r.job_id, r.id, r.snapshot_id, r.dataset_version_id
FROM numbered_runs r JOIN numbered_models m USING (i);

INSERT INTO model_datasets (model_id, dataset_id)
SELECT v.model_id, d.dataset_id FROM model_versions v JOIN dataset_versions d ON d.id = v.dataset_version_id JOIN models m ON m.id = v.model_id
JOIN users u ON u.id = m.owner_id WHERE u.username = :owner;

INSERT INTO model_alias_events (model_id, model_version_id, name, set_by_id, reason, set_at, superseded_at)
SELECT v.model_id, v.id, 'production', u.id, 'for people', at, superseded_at
FROM model_versions v JOIN models m ON m.id = v.model_id JOIN users u ON u.id = m.owner_id,
  (VALUES (now() - interval '1 day', now()), (now(), NULL)) p(at, superseded_at)
WHERE u.username = :owner;

INSERT INTO job_outputs (job_id, position, kind, target_id)
SELECT v.job_id, 0, 'mversion', v.id FROM model_versions v JOIN models m ON m.id = v.model_id JOIN users u ON u.id = m.owner_id WHERE u.username = :owner;

INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
SELECT m.owner_id, 'test/' || v.id || '/MODEL', 10, md5(v.id::text || 'MODEL') || repeat('0', 32)
FROM model_versions v JOIN models m ON m.id = v.model_id JOIN users u ON u.id = m.owner_id WHERE u.username = :owner;

INSERT INTO artifacts (owner_id, object_id, model_version_id, run_id, path, role, filename, content_type)
SELECT o.owner_id, o.id, v.id, v.run_id, 'file', 'MODEL', 'file', 'application/octet-stream'
FROM model_versions v JOIN stored_objects o ON o.object_key = 'test/' || v.id || '/MODEL' JOIN users u ON u.id = o.owner_id
WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO models (owner_id, name, description, problem_type, deleted_at)
SELECT u.id, name, 'for people', problem_type, v.deleted_at FROM users u, (VALUES
  ('Without a version', NULL, NULL::timestamptz), ('Imported', 'regression', NULL), ('Deleted', 'clustering', now()))
  v(name, problem_type, deleted_at)
WHERE u.username = :owner;

INSERT INTO model_versions (model_id, number, algorithm, framework)
SELECT m.id, number, 'Ridge', 'scikit-learn' FROM models m JOIN users u ON u.id = m.owner_id, generate_series(1, 2) number
WHERE u.username = :owner AND m.name = 'Imported';

INSERT INTO model_alias_events (model_id, model_version_id, name, set_by_id, reason, superseded_at)
SELECT v.model_id, v.id, 'staging', m.owner_id, 'for people', CASE v.number WHEN 1 THEN now() END
FROM model_versions v JOIN models m ON m.id = v.model_id JOIN users u ON u.id = m.owner_id WHERE u.username = :owner AND m.name = 'Imported';

INSERT INTO model_alias_events (model_id, name) SELECT m.id, 'removed' FROM models m JOIN users u ON u.id = m.owner_id
WHERE u.username = :owner AND m.name = 'Imported';
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    answer = await ada.one(
        "mutation($input: SetModelAliasInput!) { setModelAlias(input: $input) { __typename } }",
        input={"modelVersionId": ids["model version"], "name": "production"},
    )
    assert answer == {"__typename": "SetModelAliasPayload"}


def _alias(name: str) -> Example:
    def fits(model: Row) -> bool:
        return any(alias["name"] == name for alias in model["aliases"])

    return Example(name, "aliases { name }", fits)


def _algorithm(name: str) -> Example:
    def fits(model: Row) -> bool:
        return any(edge["node"]["algorithm"] == name for edge in model["versions"]["edges"])

    return Example(name, "versions { edges { node { algorithm } } }", fits)


FACTORY = Factory(
    ids={"model": Model, "mversion": ModelVersion, "aliasevent": ModelAliasEvent},
    after=("datasets", "experiments"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    examples={
        "ModelFilter.alias": (_alias("production"), _alias("staging"), _alias("nothing")),
        "ModelFilter.algorithm": (_algorithm("Ridge"), _algorithm("ridge")),
    },
    arguments={"Model.alias(name)": '"production"', "Model.aliasesAt(at)": '"2100-01-01T00:00:00Z"'},
)
