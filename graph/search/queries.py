"""The root query for the search."""

from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import search as searches
from db.queries.search_words import MAX_LENGTH
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.errors import BadUserInput
from graph.core.ids import filter_id
from graph.core.paging import parse_slice
from graph.core.permissions import query
from graph.search.enums import SearchType
from graph.search.types import SearchConnection

COST = 10


@strawberry.type
class SearchQueries:
    @query(
        metadata=costs(COST),
        description="Find what you may see by words of its name, description, notes, columns or parameters, in English, German, French and Spanish: your own and your"
        " teams'; for admins, everybody's. The last word may be the beginning of one, accents do not matter, and names such as `bearing_vibration_42` are found by their"
        ' parts. `"…"` is a phrase, `-word` excludes one, `or` means either. If little is found, similar words are too; words that only join others, alone, find what'
        " is newest.",
    )
    async def search(
        self,
        info: Info,
        query: Annotated[str, strawberry.argument(description="What to look for, at most 256 characters.")],
        types: Annotated[list[SearchType] | None, strawberry.argument(description="Find only these types.")] = None,
        owner_id: Annotated[
            ID | None, strawberry.argument(description="Find only what this account owns: you, or a team of yours.")
        ] = None,
        first: Annotated[
            int | None, strawberry.argument(description="How many to return, from the start or after `after`: 0 to 100; 20 by default.")
        ] = None,
        after: Annotated[str | None, strawberry.argument(description="Return what follows this cursor.")] = None,
    ) -> SearchConnection:
        if len(query) > MAX_LENGTH:
            raise BadUserInput(
                f"`query` has {len(query):,} characters; at most {MAX_LENGTH} are looked for. Leave out all but the important words."
            )
        page_slice = parse_slice({"first": first, "after": after})
        search = searches.Search(query, None if types is None else tuple(types), None if owner_id is None else filter_id("user", owner_id))
        page = await searches.page(info.context.database, info.context.signed_in_viewer, search, page_slice)
        return SearchConnection.of(page, search.words.words, has_previous=after is not None)
