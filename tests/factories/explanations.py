"""Explanations: for each model version a complete one, of an item of each version of data in turn, and one for each status of a job."""

from __future__ import annotations

from db.tables import Explanation
from tests.client import Client
from tests.factories import Factory

_ROWS = """
WITH numbered_models AS (
  SELECT v.id, v.job_id, v.run_id, row_number() OVER (ORDER BY v.id) AS i FROM model_versions v JOIN models m ON m.id = v.model_id
  JOIN users u ON u.id = m.owner_id WHERE u.username = :owner),
numbered_items AS (
  SELECT t.id, t.version_id, row_number() OVER (ORDER BY t.key, t.id) AS i FROM dataset_items t JOIN dataset_versions v ON v.id = t.version_id
  JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id WHERE u.username = :owner)
INSERT INTO explanations (owner_id, created_by_id, job_id, model_version_id, run_id, dataset_version_id, item_id, method, attributions, data, additivity_error)
SELECT u.id, u.id, m.job_id, m.id, m.run_id, t.version_id, t.id, 'tree_shap',
  '[{"feature": "a", "meanAbsolute": 0.5, "mean": -0.5, "standardDeviation": 0.1, "classLabel": "yes"}]', '{"rows": 1}', 1e-12
FROM numbered_models m JOIN numbered_items t USING (i) JOIN users u ON u.username = :owner;

INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
SELECT e.owner_id, 'test/' || e.id || '/' || purpose, 10, md5(e.id::text || purpose) || repeat('0', 32)
FROM explanations e JOIN users u ON u.id = e.owner_id, unnest(ARRAY['BAR_PLOT', 'EXPLANATION_DATA']) purpose WHERE u.username = :owner;

INSERT INTO artifacts (owner_id, object_id, explanation_id, job_id, role, filename, content_type)
SELECT o.owner_id, o.id, e.id, e.job_id, purpose, 'file', 'image/png'
FROM explanations e JOIN users u ON u.id = e.owner_id CROSS JOIN unnest(ARRAY['BAR_PLOT', 'EXPLANATION_DATA']) purpose
JOIN stored_objects o ON o.object_key = 'test/' || e.id || '/' || purpose WHERE u.username = :owner;
"""

_STATES = """
WITH model AS (
  SELECT v.id FROM model_versions v JOIN models m ON m.id = v.model_id JOIN users u ON u.id = m.owner_id WHERE u.username = :owner ORDER BY v.id LIMIT 1)
INSERT INTO explanations (owner_id, job_id, model_version_id, method)
SELECT DISTINCT ON (j.status) j.owner_id, j.id, model.id, (ARRAY['linear', 'permutation', 'partial_dependence', 'occlusion'])[row_number() OVER (ORDER BY j.id) % 4 + 1]
FROM model, jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner;
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    created = await ada.one(
        "mutation($input: CreateExplanationInput!) { createExplanation(input: $input) { ... on CreateExplanationPayload { explanation { id } job { id } }"
        " ... on Problem { code message } ... on InvalidInput { issues { path message } } } }",
        input={"modelVersionId": ids["model version"], "method": "PERMUTATION"},
    )
    ids["explanation"], ids["explanation job"] = created["explanation"]["id"], created["job"]["id"]
    assert (await ada.wait(ids["explanation job"]))["status"] == "COMPLETED"


FACTORY = Factory(
    ids={"explanation": Explanation},
    after=("items", "jobs", "models"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    story_statuses=(("Explanation", "COMPLETED"),),
)
