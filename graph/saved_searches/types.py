"""Saved searches."""

from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry

from db.queries import accounts, saved_searches
from graph.accounts.types import Profile, User
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, extend, one
from graph.core.ids import Node
from graph.core.paging import Connection
from graph.core.permissions import Scope
from graph.core.problems import InputIssue
from graph.core.scalars import JSON, BigInt
from graph.saved_searches.validation import issues_of
from graph.search.enums import SearchType


@strawberry.type(description="A filter and an order of a list, under a name.")
class SavedSearch(Node, prefix="savedsearch", found_by=saved_searches.by_id, scope=Scope.READ):
    owner_id: strawberry.Private[UUID]
    created_by_id: strawberry.Private[UUID | None]
    name: str = strawberry.field(description="Unique among the owner's saved searches, ignoring case.")
    target: SearchType = strawberry.field(description="The list: that of this type.")
    filter: JSON = strawberry.field(description="What the list takes as its `filter`: pass it as the value of a variable.")
    order_by: JSON | None = strawberry.field(description="What the list takes as its `orderBy`; null for its own order.")
    is_pinned: bool = strawberry.field(description="Whether it stands before those that are not pinned.")
    usage_count: BigInt = strawberry.field(description="How often it was used; see `useSavedSearch`.")
    last_used_at: datetime | None = strawberry.field(description="When it was used last; null if it never was.")
    created_at: datetime = strawberry.field(description="When it was saved.")
    owner: User = one(accounts.by_id, key="owner_id", description="The account that owns it: a person's, or a team's.")
    created_by: Profile | None = one(
        accounts.profile_by_id, key="created_by_id", description="Who saved it, such as a member of the team; null if that was not kept."
    )

    @strawberry.field(
        metadata=costs(entries=1),
        description="What of its filter and order the list does not take any more, since it was saved with an earlier release; empty if it can be used.",
    )
    def issues(self, info: Info) -> list[InputIssue]:
        schema: Any = info.schema
        return [
            InputIssue(path=list(issue.path), message=issue.message) for issue in issues_of(schema, self.target, self.filter, self.order_by)
        ]


extend(
    User,
    "saved_searches",
    Connection[SavedSearch],
    connection(saved_searches.of_owner, description="The searches that the account saved, at most 100, newest first."),
)
