"""Tutorials that a release could ship, here of a user, and steps of them that were completed."""

from __future__ import annotations

from db.tables import Tutorial
from tests.factories import Factory

_ROWS = """
INSERT INTO tutorials (owner_id, slug, position, title, summary, level, minutes, steps)
SELECT u.id, u.username || '-tutorial-' || i, i, 'Tutorial ' || i, 'What one learns.', 'beginner', 5,
  '[{"key": "first", "title": "First", "body": "Run it.", "document": "{ viewer { id } }", "variables": null}]'
FROM users u, generate_series(1, :count) i WHERE u.username = :owner;
INSERT INTO tutorial_progress (user_id, tutorial_id, step_key)
SELECT u.id, t.id, 'first' FROM users u JOIN tutorials t ON t.owner_id = u.id WHERE u.username = :owner;
"""

_STATES = """
INSERT INTO tutorials (owner_id, slug, position, title, summary, level, minutes, steps)
SELECT u.id, u.username || '-reading', 0, 'Reading', 'What one reads.', 'advanced', 1,
  '[{"key": "read", "title": "Read", "body": "Read it.", "document": null, "variables": null}]'
FROM users u WHERE u.username = :owner;
"""

FACTORY = Factory(ids={"tutorial": Tutorial}, after=("accounts",), rows=_ROWS, states=_STATES)
