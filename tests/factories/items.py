"""Items: a signal, an image, a recording, a text and a video of each READY version, one of them with an issue. Which one is the first by key differs between versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from db.tables import DatasetItem
from tests.factories import Example, Factory, Row

_ITEMS = """
INSERT INTO dataset_items (version_id, key, label, split, severity, size_bytes, sha256, content_type, metadata, info, features, issues, has_issues,
  rms, kurtosis, skewness, crest_factor, peak, dominant_frequency, duration, width, height, byte_offset, stored_size, storage, in_pack)
SELECT v.id, 'fault/1.csv', 'fault', 'train', 'high', 100, repeat('1', 64), 'text/csv', '{"motor": "A"}'::jsonb,
  '{"kind": "signal", "samples": 1000, "sample_rate": 500, "channels": 2, "duration": 2}'::jsonb,
  '{"rms": 0.5, "kurtosis": 3, "skewness": 0.1, "crest_factor": 2, "peak": 1, "dominant_frequency": 50}'::jsonb,
  '[{"code": "DUPLICATE_ITEM", "message": "It is there twice.", "column": null, "row": null}]'::jsonb, true,
  0.5, 3, 0.1, 2, 1, 50, 2, NULL::float8, NULL::float8, 0, 50, 'deflated', false
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
WHERE u.username = :owner AND v.status = 'ready'
UNION ALL
SELECT v.id, CASE WHEN d.name ~ '[05]$' THEN 'a' ELSE 'normal' END || '/2.png', 'normal', 'test', 'low', 200, repeat('2', 64), 'image/png', '{"camera": "B"}',
  '{"kind": "image", "width": 8, "height": 6, "channels": 3, "format": "PNG", "perceptual_hash": "00ff00ff00ff00ff"}',
  '{"width": 8, "height": 6}', '[]', false,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, 8, 6, 50, 200, 'stored', false
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
WHERE u.username = :owner AND v.status = 'ready'
UNION ALL
SELECT v.id, CASE WHEN d.name ~ '[16]$' THEN 'a' ELSE 'normal' END || '/3.flac', 'normal', 'train', 'low', 300, repeat('3', 64), 'audio/flac', '{"room": "C"}',
  '{"kind": "audio", "duration": 3, "sample_rate": 8000, "channels": 1, "codec": "FLAC"}',
  '{"rms": 0.65, "peak": 1, "crest_factor": 1.5, "dominant_frequency": 440, "duration": 3}', '[]', false,
  0.65, NULL, NULL, 1.5, 1, 440, 3, NULL, NULL, 250, 300, 'stored', false
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
WHERE u.username = :owner AND v.status = 'ready'
UNION ALL
SELECT v.id, CASE WHEN d.name ~ '[27]$' THEN 'a' ELSE 'normal' END || '/4.txt', 'normal', 'test', 'low', 40, repeat('4', 64), 'text/plain', '{"author": "D"}',
  '{"kind": "text", "characters": 40, "words": 8, "language": "en"}', '{"characters": 40, "words": 8}', '[]', false,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 550, 40, 'stored', false
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
WHERE u.username = :owner AND v.status = 'ready'
UNION ALL
SELECT v.id, CASE WHEN d.name ~ '[49]$' THEN 'a' ELSE 'normal' END || '/5.mp4', 'normal', 'train', 'low', 500, repeat('5', 64), 'video/mp4', '{"lens": "E"}',
  '{"kind": "video", "duration": 2.5, "width": 64, "height": 48, "frame_rate": 8, "frames": 20, "codec": "H264"}',
  '{"duration": 2.5, "width": 64, "height": 48}', '[]', false,
  NULL, NULL, NULL, NULL, NULL, NULL, 2.5, 64, 48, 590, 500, 'stored', false
FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id JOIN users u ON u.id = d.owner_id
WHERE u.username = :owner AND v.status = 'ready';
"""

_ROWS = (
    _ITEMS
    + """
UPDATE dataset_versions v SET item_count = 5, item_summary = '{
    "labels": [["normal", 4], ["fault", 1]], "severities": [["low", 4], ["high", 1]],
  "splits": [["train", 3], ["test", 2]],
  "signal": {"traces": 2, "samples": 1000, "sample_rate": 500, "unit": "g", "details": {"shortest": 1000, "longest": 1000}}}'
FROM datasets d JOIN users u ON u.id = d.owner_id
WHERE d.id = v.dataset_id AND u.username = :owner AND v.status = 'ready';
"""
)


def _feature(bounds: dict[str, Any], holds: Callable[[float], bool]) -> Example:
    def fits(item: Row) -> bool:
        return item["features"].get("rms") is not None and holds(item["features"]["rms"])

    return Example([{"key": "rms", **bounds}], "features", fits)


FACTORY = Factory(
    ids={"item": DatasetItem},
    after=("datasets",),
    rows=_ROWS,
    states=_ITEMS,
    examples={
        "ItemFilter.hasIssues": (
            Example(value=True, selection="issues { code }", fits=lambda item: bool(item["issues"])),
            Example(value=False, selection="issues { code }", fits=lambda item: not item["issues"]),
        ),
        "ItemFilter.features": (
            _feature({}, lambda _: True),
            _feature({"gte": 0.5}, lambda rms: rms >= 0.5),
            _feature({"gte": 0.6, "lte": 0.7}, lambda rms: 0.6 <= rms <= 0.7),
            _feature({"lte": 0.5}, lambda rms: rms <= 0.5),
        ),
    },
    unfilled=("DatasetItem.preview",),
    arguments={"ItemOrder.feature": '"rms"'},
)
