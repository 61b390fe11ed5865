"""Mutations that save, change, use and delete searches."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

import strawberry
from strawberry import ID

from db.queries import saved_searches as saved_search_queries
from db.services import saved_searches
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import decode, owner_key
from graph.core.permissions import mutation
from graph.core.problems import InvalidInput, NameTaken, NotFound, QuotaExceeded
from graph.saved_searches.inputs import DeleteSavedSearchInput, SaveSearchInput, UpdateSavedSearchInput, UseSavedSearchInput
from graph.saved_searches.types import SavedSearch
from graph.saved_searches.validation import issues_of


@strawberry.type(description="The search was saved.")
class SaveSearchPayload:
    search_id: strawberry.Private[UUID]
    saved_search: SavedSearch = one(saved_search_queries.by_id, key="search_id", description="The new saved search.")


@strawberry.type(description="The saved search was changed.")
class UpdateSavedSearchPayload:
    search_id: strawberry.Private[UUID]
    saved_search: SavedSearch = one(saved_search_queries.by_id, key="search_id", description="The updated saved search.")


@strawberry.type(description="The saved search was deleted.")
class DeleteSavedSearchPayload:
    deleted_id: ID = strawberry.field(description="The id of the deleted saved search, to remove it from caches.")


@strawberry.type(description="The use was counted.")
class UseSavedSearchPayload:
    search_id: strawberry.Private[UUID]
    saved_search: SavedSearch = one(
        saved_search_queries.by_id, key="search_id", description="The saved search; look at its `issues` before you send its filter."
    )


SaveSearchResult = Annotated[
    SaveSearchPayload | NameTaken | InvalidInput | QuotaExceeded,
    strawberry.union("SaveSearchResult", description="The possible results of `saveSearch`."),
]
UpdateSavedSearchResult = Annotated[
    UpdateSavedSearchPayload | NotFound | NameTaken | InvalidInput,
    strawberry.union("UpdateSavedSearchResult", description="The possible results of `updateSavedSearch`."),
]
DeleteSavedSearchResult = Annotated[
    DeleteSavedSearchPayload | NotFound,
    strawberry.union("DeleteSavedSearchResult", description="The possible results of `deleteSavedSearch`."),
]
UseSavedSearchResult = Annotated[
    UseSavedSearchPayload | NotFound, strawberry.union("UseSavedSearchResult", description="The possible results of `useSavedSearch`.")
]


def _find_issues(info: Info) -> saved_searches.FindIssues:
    schema: Any = info.schema
    return partial(issues_of, schema)


@strawberry.type
class SavedSearchMutations:
    @mutation(description="Save a filter and an order of a list under a name; at most 100 for an account.")
    async def save_search(
        self, info: Info, input: Annotated[SaveSearchInput, strawberry.argument(description="The search to save.")]
    ) -> SaveSearchResult:
        new_search = saved_searches.NewSavedSearch(
            input.name, input.target, input.filter, input.order_by, input.is_pinned, owner_key(input.owner_id)
        )
        async with info.context.work() as work:
            search_id = await saved_searches.save(work, new_search, _find_issues(info))
        return SaveSearchPayload(search_id=search_id)

    @mutation(description="Change the name, the filter or the order of a saved search, or pin it.")
    async def update_saved_search(
        self, info: Info, input: Annotated[UpdateSavedSearchInput, strawberry.argument(description="The changes.")]
    ) -> UpdateSavedSearchResult:
        async with info.context.work() as work:
            search_id = await saved_searches.update(work, decode("savedsearch", input.id), input.changes(), _find_issues(info))
        return UpdateSavedSearchPayload(search_id=search_id)

    @mutation(description="Delete a saved search.")
    async def delete_saved_search(
        self, info: Info, input: Annotated[DeleteSavedSearchInput, strawberry.argument(description="The saved search to delete.")]
    ) -> DeleteSavedSearchResult:
        async with info.context.work() as work:
            await saved_searches.remove(work, decode("savedsearch", input.id))
        return DeleteSavedSearchPayload(deleted_id=input.id)

    @mutation(description="Count a use of a saved search. Its list is read by its own field, with the filter as a variable.")
    async def use_saved_search(
        self, info: Info, input: Annotated[UseSavedSearchInput, strawberry.argument(description="The saved search that is used.")]
    ) -> UseSavedSearchResult:
        async with info.context.work() as work:
            search_id = await saved_searches.use(work, decode("savedsearch", input.id))
        return UseSavedSearchPayload(search_id=search_id)
