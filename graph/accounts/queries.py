"""The signed-in user, the rate limit, and lookups of nodes of any type."""

import asyncio
from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import ID

from db.queries import accounts, api_keys, sign_ins
from db.queries import invitations as invitation_queries
from graph.accounts.enums import RegistrationPolicy
from graph.accounts.inputs import UserFilter, UserOrder
from graph.accounts.types import ApiKey, Invitation, Session, User
from graph.core.context import Context, Info
from graph.core.costs import costs
from graph.core.edges import listing, lookup
from graph.core.errors import BadUserInput, Unauthenticated
from graph.core.ids import NODE_REGISTRY, Node, parse
from graph.core.paging import Connection
from graph.core.permissions import Scope, query, require_scope

MAX_NODES = 100


async def load_node(context: Context, id_: str) -> Node | None:
    """Load the node that an id of any type names, if it is not deleted and the viewer may see it."""
    parsed = parse(id_)
    registration = None if parsed is None else NODE_REGISTRY.get(parsed[0])
    if parsed is None or registration is None:
        return None
    require_scope(registration.type.scope, context, f"an id of the type {registration.type.__name__}")
    return await context.loaders.one(registration.found_by, registration.type.of).load(parsed[1])


@strawberry.type(
    description="The cost of this operation, and the points that you may still spend. Points are refilled evenly, all of them within a minute."
)
class RateLimit:
    cost: int = strawberry.field(description="The cost of this operation in points: about one for each object that it reads.")
    limit: int = strawberry.field(description="How many points you may spend in a minute; 2147483647 if there is no limit.")
    remaining: int = strawberry.field(description="How many points you may spend now, after this operation.")
    reset_at: datetime = strawberry.field(description="When all points will be available again if you spend none until then.")


@strawberry.type
class AccountQueries:
    @query(description="An object of any type by its id; null if there is none that you may see.")
    async def node(
        self, info: Info, id: Annotated[ID, strawberry.argument(description="The id, as returned by a field `id`.")]
    ) -> Node | None:
        return await load_node(info.context, id)

    @query(
        description="Several objects of any types by their ids, in the same order; null for each that does not exist or that you may not see.",
        metadata=costs(entries="ids"),
    )
    async def nodes(
        self, info: Info, ids: Annotated[list[ID], strawberry.argument(description="The ids, at most 100.")]
    ) -> list[Node | None]:
        if len(ids) > MAX_NODES:
            raise BadUserInput(f"`ids` has {len(ids)} entries; at most {MAX_NODES} are looked up at once.")
        return await asyncio.gather(*(load_node(info.context, id_) for id_ in ids))

    user: User | None = lookup(
        accounts.live_by_id, prefix="user", description="An account by its id: yourself or a team of yours; for admins, any."
    )
    users: Connection[User] = listing(
        accounts.listing,
        filtered_by=UserFilter,
        ordered_by=UserOrder,
        description="For admins, all users and teams; for others, only themselves and their teams.",
        scope=Scope.ACCOUNT,  # filters and cursors tell addresses
    )

    @query(description="The signed-in user, whose token was sent.")
    async def viewer(self, info: Info) -> User:
        user = await info.context.loaders.one(accounts.live_by_id, User.of).load(info.context.signed_in_viewer.id)
        if user is None:  # deleted since the token was read
            raise Unauthenticated
        return user

    @query(
        description="Your sessions that have not ended, at most 50, the most recently used first. They begin by `login`; API keys are no sessions.",
        metadata=costs(entries=50),
        scope=Scope.ACCOUNT,
    )
    async def sessions(self, info: Info) -> list[Session]:
        loader = info.context.loaders.many(sign_ins.sessions_of_user, Session.of)
        return await loader.load(info.context.signed_in_viewer.id)

    @query(
        description="The providers by which one can sign in here, such as `google`; the operator sets them. A browser signs in at"
        " `/auth/{provider}/start`, or, signed in already, links an identity to its account at `/auth/{provider}/start?link=1`.",
        metadata=costs(0),
        scope=Scope.PUBLIC,
    )
    async def sign_in_providers(self, info: Info) -> list[str]:
        return list(info.context.sign_in_providers)

    @query(
        description="Who may make an account here, by `register` or at a provider's `/auth/{provider}/start`, as a page for signing in shows it.",
        metadata=costs(0),
        scope=Scope.PUBLIC,
    )
    async def registration(self, info: Info) -> RegistrationPolicy:
        assert info.context.registrations is not None
        return info.context.registrations.policy

    invitations: Connection[Invitation] = listing(
        invitation_queries.listing,
        description="The open invitations to register, newest first: yours, or those of all admins if you are one. Those to a team are its own.",
        scope=Scope.ACCOUNT,
    )
    api_keys: Connection[ApiKey] = listing(
        api_keys.listing,
        description="The API keys, newest first, with those that have expired or were revoked: yours, or everybody's if you are an admin.",
        scope=Scope.ACCOUNT,
    )

    @query(description="The cost of this operation, and the points that you may still spend.", metadata=costs(0))
    async def rate_limit(
        self,
        info: Info,
        dry_run: Annotated[  # noqa: ARG002 - the document was reduced to this field before execution
            bool | None,
            strawberry.argument(
                description="Only report what the operation would cost: nothing else in it is executed or returned, and no points are taken."
            ),
        ] = False,
    ) -> RateLimit:
        spent = info.context.rate_limit_status
        assert spent is not None, "set before an operation is executed"
        return RateLimit(cost=spent.cost, limit=spent.limit, remaining=spent.remaining, reset_at=spent.reset_at)
