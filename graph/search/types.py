"""What a search finds."""

from collections.abc import Iterable
from typing import Any, Self
from uuid import UUID

import strawberry

from db.queries import datasets, experiments, models, pipelines, runs, studies
from db.queries.search import SearchPage
from graph.core.context import Info
from graph.core.ids import NODE_REGISTRY, Node
from graph.core.loading import Batch
from graph.core.paging import PageInfo
from graph.search import snippets
from graph.search.enums import SearchType

# The id prefix and the batch of each type. The batches return deleted rows too: one may be deleted after it was found.
_NODE_SOURCES: dict[SearchType, tuple[str, Batch]] = {
    SearchType.DATASET: ("dataset", datasets.by_id),
    SearchType.PIPELINE: ("pipeline", pipelines.by_id),
    SearchType.EXPERIMENT: ("experiment", experiments.by_id),
    SearchType.RUN: ("run", runs.by_id),
    SearchType.MODEL: ("model", models.by_id),
    SearchType.STUDY: ("study", studies.by_id),
}


@strawberry.type(description="One thing that was found, and its cursor.")
class SearchEdge:
    type_: strawberry.Private[SearchType]
    key: strawberry.Private[UUID]
    body: strawberry.Private[str]
    words: strawberry.Private[tuple[str, ...]]
    cursor: str = strawberry.field(description="Its position: pass it as `after` to continue from here. Valid for the same query only.")
    title: str = strawberry.field(description="Its name; of a run without one, `Run` and its number.")
    rank: float = strawberry.field(
        description="How well it fits, higher is better; below 1, only similar words were found, and 0 if the query has no word to look for."
    )

    @strawberry.field(
        description="Where the words were found: at most 200 characters of its description, notes, column names or what else is searched of it, or else of its name, as"
        " plain text, with `«` and `»` around the words. Show it as text: it may contain what looks like markup."
    )
    def snippet(self) -> str:
        return snippets.make(self.title, self.body, self.words)

    @strawberry.field(description="The thing itself.")
    async def node(self, info: Info) -> Node:
        prefix, batch = _NODE_SOURCES[self.type_]
        return await info.context.loaders.one(batch, NODE_REGISTRY[prefix].type.of).load(self.key)

    @classmethod
    def of(cls, row: Any, cursor: str, words: tuple[str, ...]) -> Self:
        return cls(type_=row.type, key=row.id, body=row.body, words=words, cursor=cursor, title=row.title, rank=row.rank)


@strawberry.type(description="A page of what a search found, the best first.")
class SearchConnection:
    edges: list[SearchEdge] = strawberry.field(description="What was found, in the order of the ranks; of equal ranks the newest first.")
    page_info: PageInfo = strawberry.field(description="Whether more follows, and the cursor to request it with.")
    is_partial: bool = strawberry.field(description="Whether more than 1,000 things match: then only the newest of them were ranked.")

    @classmethod
    def of(cls, page: SearchPage, words: Iterable[str], *, has_previous: bool) -> Self:
        found, cursors = tuple(words), page.cursors
        ends = (cursors[0], cursors[-1]) if cursors else (None, None)
        return cls(
            edges=[SearchEdge.of(row, cursor, found) for row, cursor in zip(page.rows, cursors, strict=True)],
            page_info=PageInfo(has_next_page=page.has_next, has_previous_page=has_previous, start_cursor=ends[0], end_cursor=ends[1]),
            is_partial=page.is_partial,
        )
