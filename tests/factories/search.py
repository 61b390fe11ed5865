"""The entries of the search for the rows of the other factories, past whose triggers these are inserted."""

from __future__ import annotations

from tests.factories import Factory

_ENTRIES = """
INSERT INTO search_entries (type, id, owner_id, title, body, words, vector)
SELECT s.type, s.id, s.owner_id, s.title, s.body, trellis_search_words(s.title), trellis_search_vector(s.title, s.body)
FROM trellis_searchable() s JOIN users u ON u.id = s.owner_id WHERE u.username = :owner ON CONFLICT DO NOTHING;
"""

FACTORY = Factory(ids={}, after=("datasets", "experiments", "models", "pipelines", "studies"), rows=_ENTRIES, states=_ENTRIES)
