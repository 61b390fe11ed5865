"""What was deleted and can be restored: datasets, and of each kind what the factories before left deleted."""

from __future__ import annotations

from db.tables import Deletion
from tests.factories import Factory

_ROWS = """
WITH deleted AS (
  INSERT INTO datasets (owner_id, created_by_id, name, modality, source, deleted_at)
  SELECT u.id, u.id, 'deleted dataset ' || i, 'tabular', 'upload', now() FROM users u, generate_series(1, :count) i WHERE u.username = :owner
  RETURNING *)
INSERT INTO deletions (id, owner_id, created_by_id, kind, name, size_bytes, restorable_until)
SELECT id, owner_id, owner_id, 'dataset', name, 10, now() + interval '30 days' FROM deleted;
"""

_STATES = """
INSERT INTO deletions (id, owner_id, kind, name, restorable_until)
SELECT t.id, t.owner_id, t.kind, t.name, now() + interval '30 days' FROM (
  SELECT id, owner_id, 'dataset' AS kind, name, deleted_at FROM datasets UNION ALL
  SELECT id, owner_id, 'pipeline', name, deleted_at FROM pipelines UNION ALL
  SELECT id, owner_id, 'model', name, deleted_at FROM models UNION ALL
  SELECT id, owner_id, 'experiment', name, deleted_at FROM experiments UNION ALL
  SELECT id, owner_id, 'study', name, deleted_at FROM studies) t
JOIN users u ON u.id = t.owner_id WHERE u.username = :owner AND t.deleted_at IS NOT NULL ON CONFLICT DO NOTHING;
"""

FACTORY = Factory(
    ids={"deletion": Deletion}, after=("datasets", "pipelines", "models", "experiments", "studies"), rows=_ROWS, states=_STATES
)
