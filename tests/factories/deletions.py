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
INSERT INTO dataset_versions (dataset_id, number, status, source, deleted_at)
SELECT d.id, 99, 'failed', 'upload', now() FROM datasets d JOIN users u ON u.id = d.owner_id WHERE u.username = :owner AND d.name = 'dataset 1';

INSERT INTO model_versions (model_id, number, algorithm, framework, deleted_at)
SELECT m.id, 99, 'Ridge', 'scikit-learn', now() FROM models m JOIN users u ON u.id = m.owner_id WHERE u.username = :owner AND m.name = 'model 1';

INSERT INTO runs (owner_id, experiment_id, number, seed, status, deleted_at)
SELECT e.owner_id, e.id, 99, 0, 'failed', now() FROM experiments e JOIN users u ON u.id = e.owner_id WHERE u.username = :owner AND e.name = 'experiment 1';

INSERT INTO deletions (id, owner_id, kind, name, restorable_until)
SELECT t.id, t.owner_id, t.kind, t.name, now() + interval '30 days' FROM (
  SELECT id, owner_id, 'dataset' AS kind, name, deleted_at FROM datasets UNION ALL
  SELECT id, owner_id, 'pipeline', name, deleted_at FROM pipelines UNION ALL
  SELECT id, owner_id, 'model', name, deleted_at FROM models UNION ALL
  SELECT id, owner_id, 'experiment', name, deleted_at FROM experiments UNION ALL
  SELECT id, owner_id, 'study', name, deleted_at FROM studies UNION ALL
  SELECT v.id, d.owner_id, 'dataset_version', d.name, v.deleted_at FROM dataset_versions v JOIN datasets d ON d.id = v.dataset_id UNION ALL
  SELECT v.id, m.owner_id, 'model_version', m.name, v.deleted_at FROM model_versions v JOIN models m ON m.id = v.model_id UNION ALL
  SELECT id, owner_id, 'run', coalesce(name, 'run'), deleted_at FROM runs) t
JOIN users u ON u.id = t.owner_id WHERE u.username = :owner AND t.deleted_at IS NOT NULL ON CONFLICT DO NOTHING;
"""

FACTORY = Factory(
    ids={"deletion": Deletion}, after=("datasets", "pipelines", "models", "experiments", "studies"), rows=_ROWS, states=_STATES
)
