"""Exports: one of each dataset version, complete, with its file, and one of a model version; one for each status of a job."""

from __future__ import annotations

from db.tables import Export
from tests.client import Client
from tests.factories import Factory

_ROWS = """
WITH chosen AS (  -- its export is of a model
  SELECT j.id, model.id AS model_version_id FROM jobs j JOIN users u ON u.id = j.owner_id CROSS JOIN LATERAL (
    SELECT v.id FROM model_versions v JOIN models m ON m.id = v.model_id WHERE m.owner_id = j.owner_id ORDER BY v.id LIMIT 1) model
  WHERE u.username = :owner ORDER BY j.id DESC OFFSET 1 LIMIT 1)
INSERT INTO exports (owner_id, created_by_id, job_id, dataset_version_id, model_version_id, format, options, size_bytes, expires_at)
SELECT j.owner_id, j.owner_id, j.id, CASE WHEN chosen.id IS NULL THEN j.dataset_version_id END, chosen.model_version_id,
  CASE WHEN chosen.id IS NULL THEN 'csv' ELSE 'onnx' END, '{"delimiter": ","}', 10, now() + interval '7 days'
FROM jobs j JOIN users u ON u.id = j.owner_id LEFT JOIN chosen ON chosen.id = j.id WHERE u.username = :owner
ORDER BY j.id;

INSERT INTO exports (owner_id, created_by_id, job_id, target, list_parent_id, filter, order_by, columns, plan, format, options, size_bytes, expires_at)
SELECT owner_id, owner_id, id, 'dataset_items', dataset_version_id, '{"label": ["a"]}', '{"field": "KEY"}', '{id}', '{}', 'csv', '{"delimiter": ","}', 10,
  now() + interval '7 days'
FROM (SELECT j.* FROM jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner ORDER BY j.id LIMIT 1) job;

INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
SELECT e.owner_id, 'test/' || e.id || '/EXPORT', 10, md5(e.id::text || 'EXPORT') || repeat('0', 32)
FROM exports e JOIN users u ON u.id = e.owner_id WHERE u.username = :owner;

INSERT INTO artifacts (owner_id, object_id, export_id, job_id, role, filename, content_type)
SELECT o.owner_id, o.id, e.id, e.job_id, 'EXPORT', 'file.csv', 'text/csv'
FROM exports e JOIN stored_objects o ON o.object_key = 'test/' || e.id || '/EXPORT' JOIN users u ON u.id = e.owner_id
WHERE u.username = :owner;
"""

_STATES = """
WITH source AS (
  SELECT v.id FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id WHERE u.username = :owner
  ORDER BY v.id LIMIT 1)
INSERT INTO exports (owner_id, job_id, dataset_version_id, format, size_bytes, expires_at, expired_at)
SELECT j.owner_id, j.id, source.id, (ARRAY['csv', 'json', 'jsonl', 'parquet'])[row_number() OVER (ORDER BY j.id) % 4 + 1],
  CASE j.status WHEN 'completed' THEN 10 END, CASE j.status WHEN 'completed' THEN now() - interval '1 day' END, CASE j.status WHEN 'completed' THEN now() END
FROM source, jobs j JOIN users u ON u.id = j.owner_id WHERE u.username = :owner AND j.dataset_version_id IS NULL;
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    created = await ada.create_export(ids["ready"], "JSONL")
    ids["export"], ids["export job"] = created["export"]["id"], created["job"]["id"]
    assert (await ada.wait(ids["export job"]))["status"] == "COMPLETED"


FACTORY = Factory(
    ids={"export": Export},
    after=("datasets", "jobs", "models"),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    story_statuses=(("Export", "COMPLETED"),),
)
