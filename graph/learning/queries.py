"""Root queries for tutorials."""

from typing import Annotated

import strawberry

from db.queries import learning
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.permissions import query
from graph.learning.types import Tutorial


@strawberry.type
class LearningQueries:
    @query(metadata=costs(entries=10), description="The tutorials that ship, in the order in which they build on each other.")
    async def tutorials(self, info: Info) -> list[Tutorial]:
        return [Tutorial.of(row) for row in await learning.all_tutorials(info.context.database, info.context.signed_in_viewer)]

    @query(description="A tutorial by its name; null if there is none of that name.")
    async def tutorial(
        self, info: Info, slug: Annotated[str, strawberry.argument(description="Its `slug`, such as `first-model`.")]
    ) -> Tutorial | None:
        rows = await learning.all_tutorials(info.context.database, info.context.signed_in_viewer)
        return next((Tutorial.of(row) for row in rows if row.slug == slug), None)
