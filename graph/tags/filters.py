"""The filter by tags, which every list of what can have tags takes."""

from __future__ import annotations

from typing import Any

from graph.core.filters import reference

MAX_TAGS = 10  # each is a condition of its own


def tagged_with() -> Any:
    """The field `tags` of the filter of a list of what can have tags."""
    return reference("tag", description="Tags, all of which it has; at most 10. An empty list restricts nothing.", most=MAX_TAGS)
