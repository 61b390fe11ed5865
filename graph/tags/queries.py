"""Root queries for tags."""

import strawberry

from db.queries import tags
from graph.core.edges import listing, lookup
from graph.core.paging import Connection
from graph.tags.inputs import TagFilter, TagOrder
from graph.tags.types import Tag


@strawberry.type
class TagQueries:
    tag: Tag | None = lookup(tags.by_id, prefix="tag", description="A tag by its id.")
    tags: Connection[Tag] = listing(
        tags.listing, filtered_by=TagFilter, ordered_by=TagOrder, description="Your tags and those of your teams; for admins, everybody's."
    )
