"""Root queries for saved searches."""

from itertools import chain

import strawberry

from db.queries import saved_searches
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.permissions import query
from graph.saved_searches.types import SavedSearch


@strawberry.type
class SavedSearchQueries:
    @query(
        metadata=costs(entries=20),
        description="The searches that you saved and those of your teams: pinned ones first, then the most recently used.",
    )
    async def saved_searches(self, info: Info) -> list[SavedSearch]:
        loader = info.context.loaders.many(saved_searches.all_of_owner, SavedSearch.of)
        searches = list(chain.from_iterable(await loader.load_many(info.context.signed_in_viewer.accounts)))

        def rank(search: SavedSearch) -> tuple[bool, float]:
            used_at = search.last_used_at
            return not search.is_pinned, 0 if used_at is None else -used_at.timestamp()

        return sorted(searches, key=rank)
