"""Who is signed in, and anything by its id."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import accounts
from graph.accounts.types import User
from graph.core.context import Context, Info
from graph.core.costs import costs
from graph.core.errors import BadUserInput, Unauthenticated
from graph.core.ids import NODE_REGISTRY, Node, parse
from graph.core.permissions import query

MAX_NODES = 100


async def load_node(context: Context, id_: str) -> Node | None:
    """What an id of any kind names, if the viewer may see it and it is not deleted."""
    parsed = parse(id_)
    registration = None if parsed is None else NODE_REGISTRY.get(parsed[0])
    if parsed is None or registration is None:
        return None
    return await context.loaders.one(registration.found_by, registration.type.of).load(parsed[1])


@strawberry.type(
    description="What this operation costs, and what you may still spend. Points flow back evenly, all of them within a minute."
)
class RateLimit:
    cost: int = strawberry.field(description="What this operation costs in points: about the number of things that it reads.")
    limit: int = strawberry.field(description="How many points you may spend in a minute; 2147483647 where there is no limit.")
    remaining: int = strawberry.field(description="How many points you may spend at once now, this operation's already taken.")
    reset_at: datetime = strawberry.field(description="When all of them will be there again, if you spend none until then.")


@strawberry.type
class AccountQueries:
    @query(description="Anything by its id; null where there is nothing of that id that you may see.")
    async def node(
        self, info: Info, id: Annotated[ID, strawberry.argument(description="The id, as some field `id` answered it.")]
    ) -> Node | None:
        return await load_node(info.context, id)

    @query(
        description="Several things by their ids, in the same order; null for each of which there is nothing that you may see.",
        metadata=costs(entries="ids"),
    )
    async def nodes(
        self, info: Info, ids: Annotated[list[ID], strawberry.argument(description="The ids, at most 100.")]
    ) -> list[Node | None]:
        if len(ids) > MAX_NODES:
            raise BadUserInput(f"`ids` has {len(ids)} entries; at most {MAX_NODES} are looked up at once.")
        return await asyncio.gather(*(load_node(info.context, id_) for id_ in ids))

    @query(description="You: the user whose token was sent.")
    async def viewer(self, info: Info) -> User:
        user = await info.context.loaders.one(accounts.live_by_id, User.of).load(info.context.signed_in_viewer.id)
        if user is None:  # deleted since the token was read
            raise Unauthenticated
        return user

    @query(description="What this operation costs, and what you may still spend.", metadata=costs(0))
    async def rate_limit(
        self,
        info: Info,
        dry_run: Annotated[  # noqa: ARG002 - the document was cut down to this field before it ran
            bool | None,
            strawberry.argument(
                description="Only tell what the operation would cost: nothing else of it is run or answered, and nothing is taken."
            ),
        ] = False,
    ) -> RateLimit:
        spent = info.context.rate_limit_status
        assert spent is not None, "set before an operation runs"
        return RateLimit(cost=spent.cost, limit=spent.limit, remaining=spent.remaining, reset_at=spent.reset_at)
