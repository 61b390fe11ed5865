"""Datasets: each with one READY version, its profile and its files; versions in every state; a pending upload."""

from __future__ import annotations

from db.tables import Artifact, Dataset, DatasetProfile, DatasetVersion, ImportSchedule, Upload
from tests.client import Client
from tests.factories import Factory, Nodes

CSV = "x,y,label\n" + "".join(f"{i},{i * 2 % 7},{'a' if i % 3 else 'b'}\n" for i in range(90))

_ROWS = """
INSERT INTO datasets (owner_id, created_by_id, name, modality, source, last_number)
SELECT u.id, u.id, 'dataset ' || i, 'tabular', 'upload', 1 FROM users u, generate_series(1, :count) i WHERE u.username = :owner;

INSERT INTO dataset_versions (dataset_id, number, status, source, format, size_bytes, row_count, column_count, columns, issues, issue_count,
  preview, ready_at)
SELECT d.id, 1, 'ready', 'upload', 'csv', 10, 2, 1, '[{"name": "x", "type": "integer", "nullable": false}]',
  '[{"code": "RAGGED_ROW", "message": "A row was longer.", "column": null, "row": 2}]', 1, '[{"x": 1}, {"x": 2}]', now()
FROM datasets d JOIN users u ON u.id = d.owner_id WHERE u.username = :owner;

INSERT INTO dataset_profiles (version_id, profiler_version, generation_time, is_exact, row_count, duplicate_row_count, missing_cell_ratio, report)
SELECT v.id, '1', 0.1, true, 2, 0, 0,
  '{"columns": [{"name": "x", "type": "integer", "missing_count": 0, "distinct_count": 2, "min": 1, "max": 2, "mean": 1.5,
    "histogram": [{"lower": 1, "upper": 2, "count": 2}], "top_values": [{"value": 1, "count": 1}]}], "correlations": {}}'
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id WHERE u.username = :owner;

INSERT INTO stored_objects (owner_id, object_key, size_bytes, sha256)
SELECT d.owner_id, 'test/' || v.id || '/' || k, 10, md5(v.id::text || k) || repeat('0', 32)
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id, unnest(ARRAY['RAW', 'PROCESSED']) k
WHERE u.username = :owner;

INSERT INTO artifacts (owner_id, object_id, dataset_version_id, role, filename, content_type)
SELECT o.owner_id, o.id, v.id, k, 'file', 'text/csv'
FROM dataset_versions v CROSS JOIN unnest(ARRAY['RAW', 'PROCESSED']) k
JOIN stored_objects o ON o.object_key = 'test/' || v.id || '/' || k JOIN users u ON u.id = o.owner_id WHERE u.username = :owner;

INSERT INTO import_schedules (dataset_id, url, cron, timezone, is_active, next_at, created_by_id)
SELECT d.id, 'https://example.org/data.csv', '0 6 * * *', 'UTC', true, now() + interval '1 day', d.owner_id
FROM datasets d JOIN users u ON u.id = d.owner_id WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO datasets (owner_id, name, description, modality, problem_type, target_column, source, deleted_at)
SELECT u.id, name, 'for people', modality, problem_type, 'label', source, v.deleted_at FROM users u, (VALUES
  ('Without a version', 'text', 'regression', 'imported', NULL::timestamptz),
  ('Every state', 'image', 'classification', 'api', NULL),
  ('Deleted', 'audio', 'clustering', 'generated', now())) v(name, modality, problem_type, source, deleted_at)
WHERE u.username = :owner;

INSERT INTO dataset_versions (dataset_id, number, status, source, issues, issue_count)
SELECT d.id, number, status, 'upload',
  CASE status WHEN 'failed' THEN '[{"code": "UNREADABLE", "message": "It is no table.", "column": null, "row": null}]'::jsonb ELSE '[]' END,
  CASE status WHEN 'failed' THEN 1 ELSE 0 END
FROM datasets d JOIN users u ON u.id = d.owner_id,
  unnest(ARRAY['pending', 'uploading', 'uploaded', 'processing', 'failed']) WITH ORDINALITY s(status, number)
WHERE u.username = :owner AND d.name = 'Every state';

UPDATE datasets d SET last_number = 5 FROM users u WHERE u.id = d.owner_id AND u.username = :owner AND d.name = 'Every state';

INSERT INTO uploads (owner_id, version_id, object_key, filename, content_type, size_bytes, expires_at)
SELECT d.owner_id, v.id, 'test/upload/' || v.id, 'later.csv', 'text/csv', 1, now() + interval '1 day'
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
WHERE u.username = :owner AND d.name = 'Every state' AND v.status = 'uploading';
"""


async def _tell(ada: Client, ids: dict[str, str]) -> None:
    ids["ready"] = await ada.ingest("ready", CSV, targetColumn="label", problemType="CLASSIFICATION")
    ids["dataset"] = await _dataset_of(ada, ids["ready"])
    ids["unfinished"] = (await ada.request_upload(ids["dataset"], "later.csv", b"x"))["upload"]["version"]["id"]
    mismatched = (await ada.request_upload(ids["dataset"], "other.csv", b"abc", sha256="0" * 64))["upload"]
    assert (await ada.put(mismatched, b"abc")).status_code == 200
    assert (await ada.complete_upload(mismatched["id"]))["__typename"] == "UploadMismatch"
    ids["mismatched"] = mismatched["version"]["id"]
    picture = b"\x89PNG\r\n\x1a\n" + b"\x00" * 64
    ids["broken"], ids["failed job"] = await ada.upload(await ada.create_dataset("broken"), "picture.csv", picture)
    assert (await ada.wait(ids["failed job"]))["status"] == "FAILED"
    schedule = {"datasetId": ids["dataset"], "url": "https://example.org/data.csv", "cron": "0 6 * * *"}
    await ada.one("mutation($input: CreateImportScheduleInput!) { createImportSchedule(input: $input) { __typename } }", input=schedule)
    ids["gone"] = await ada.ingest("gone", CSV)
    produced_by = "query($id: ID!) { node(id: $id) { ... on DatasetVersion { producedBy { id } } } }"
    ids["job of the gone"] = (await ada.one(produced_by, id=ids["gone"]))["producedBy"]["id"]
    await ada.one("mutation($id: ID!) { deleteDataset(input: {id: $id}) { __typename } }", id=await _dataset_of(ada, ids["gone"]))


async def _dataset_of(ada: Client, version: str) -> str:
    answer = await ada.one("query($id: ID!) { node(id: $id) { ... on DatasetVersion { dataset { id } } } }", id=version)
    return answer["dataset"]["id"]


def _has_all_sources(nodes: Nodes) -> bool:
    return {"UPLOAD", "DERIVED"} <= {version["source"] for version in nodes["DatasetVersion"]}


def _has_a_version_of_a_deleted_dataset(nodes: Nodes) -> bool:
    return any((job["datasetVersion"] or {}).get("dataset", {}).get("deletedAt") for job in nodes["Job"])  # edges alone lead to it


FACTORY = Factory(
    ids={
        "dataset": Dataset,
        "version": DatasetVersion,
        "profile": DatasetProfile,
        "artifact": Artifact,
        "upload": Upload,
        "schedule": ImportSchedule,
    },
    after=("accounts",),
    rows=_ROWS,
    states=_STATES,
    story=_tell,
    story_statuses=(("DatasetVersion", "UPLOADING"), ("DatasetVersion", "FAILED"), ("DatasetVersion", "READY")),
    conditions={
        "versions are uploaded and derived": _has_all_sources,
        "a version outlives its dataset": _has_a_version_of_a_deleted_dataset,
    },
    unfilled=("DatasetVersion.producedBy", "ImportSchedule.lastJob"),  # the rows of jobs are made later
    arguments={"Dataset.version(number)": "1"},
)
