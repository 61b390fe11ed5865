"""The identities at providers that open an account. They are linked by a browser, at `/auth/{provider}/start`."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import accounts as account_queries
from db.services import accounts
from graph.accounts.inputs import UnlinkOAuthIdentityInput
from graph.accounts.types import User
from graph.core.context import Info
from graph.core.edges import one
from graph.core.permissions import Scope, mutation
from graph.core.problems import NotFound, WrongState


@strawberry.type(description="The identity opens your account no more. Sessions that it began go on; `revokeOtherSessions` ends them.")
class UnlinkOAuthIdentityPayload:
    user_id: strawberry.Private[UUID]
    viewer: User = one(account_queries.live_by_id, key="user_id", description="You, with the identities that are left.")


UnlinkOAuthIdentityResult = Annotated[
    UnlinkOAuthIdentityPayload | NotFound | WrongState,
    strawberry.union("UnlinkOAuthIdentityResult", description="The possible results of `unlinkOAuthIdentity`."),
]


@strawberry.type
class Providers:
    @mutation(
        name="unlinkOAuthIdentity",
        scope=Scope.SESSION,
        description="Have your identity at a provider open your account no more. The last way to sign in cannot be removed. Takes a session that began"
        " less than 10 minutes ago; with an older one, sign in again.",
    )
    async def unlink_oauth_identity(
        self, info: Info, input: Annotated[UnlinkOAuthIdentityInput, strawberry.argument(description="The identity.")]
    ) -> UnlinkOAuthIdentityResult:
        async with info.context.work() as work:
            user_id = await accounts.unlink_identity(work, input.provider, info.context.sign_in_providers)
        return UnlinkOAuthIdentityPayload(user_id=user_id)
