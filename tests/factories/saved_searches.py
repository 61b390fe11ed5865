"""Saved searches: of runs that failed, and of each list."""

from __future__ import annotations

from db.tables import SavedSearch
from tests.factories import Factory

_ROWS = """
INSERT INTO saved_searches (owner_id, created_by_id, name, target, filter, order_by, is_pinned, usage_count, last_used_at)
SELECT u.id, u.id, 'search ' || i, 'run', '{"status": ["FAILED"], "noSuchField": 1}', '{"by": {"field": "NUMBER"}}', true, i, now()
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO saved_searches (owner_id, name, target)
SELECT u.id, target, target FROM users u, unnest(ARRAY['dataset', 'pipeline', 'experiment', 'model']) target WHERE u.username = :owner;
"""

FACTORY = Factory(ids={"savedsearch": SavedSearch}, after=("accounts",), rows=_ROWS, states=_STATES)
