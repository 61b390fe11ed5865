"""What admins change of users."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import accounts as account_queries
from db.services import accounts
from graph.accounts.inputs import AdministerUserInput
from graph.accounts.types import User
from graph.core.context import Info
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, LastAdmin, NotFound


@strawberry.type(description="The user was changed. Their open streams and websockets follow within seconds.")
class AdministerUserPayload:
    user_id: strawberry.Private[UUID]
    user: User = one(account_queries.live_by_id, key="user_id", description="The changed user.")


AdministerUserResult = Annotated[
    AdministerUserPayload | NotFound | InvalidInput | LastAdmin,
    strawberry.union("AdministerUserResult", description="The possible results of `administerUser`."),
]


@strawberry.type
class Administration:
    @mutation(
        scope=Scope.ADMIN,
        description="Change the role, the tier, the access or the storage quota of a user. For admins; one active admin always stays. A new"
        " role ends the sessions of the user, who signs in again; API keys have it within seconds.",
    )
    async def administer_user(
        self, info: Info, input: Annotated[AdministerUserInput, strawberry.argument(description="The changes.")]
    ) -> AdministerUserResult:
        async with info.context.work() as work:
            user_id = await accounts.administer(work, decode("user", input.id), input.changes())
        return AdministerUserPayload(user_id=user_id)
