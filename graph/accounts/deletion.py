"""The end of an account by its owner."""

from datetime import datetime
from typing import Annotated

import strawberry

from graph.accounts.inputs import DeleteAccountInput
from graph.accounts.passwords import ATTEMPT
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidCredentials, LastAdmin, WrongState


@strawberry.type(
    description="Your account is deleted, with all that it owned; its sessions and memberships have ended, and its API keys are revoked."
)
class DeleteAccountPayload:
    restorable_until: datetime = strawberry.field(
        description="Until when `restoreAccount` brings it back, if nobody takes its address meanwhile. Then all of it is removed."
    )


DeleteAccountResult = Annotated[
    DeleteAccountPayload | InvalidCredentials | WrongState | LastAdmin,
    strawberry.union("DeleteAccountResult", description="The possible results of `deleteAccount`."),
]


@strawberry.type
class Deletion:
    @mutation(
        scope=Scope.SESSION,
        description="Delete your account with all that it owns, which frees its address and its username. It takes your password, or a sign-in less"
        " than ten minutes ago; WrongState says so, or that a job of yours has not ended. LastAdmin: you are the last admin, or the only ADMIN of a team.",
        metadata=costs(ATTEMPT),
    )
    async def delete_account(
        self, info: Info, input: Annotated[DeleteAccountInput, strawberry.argument(description="Your password.")]
    ) -> DeleteAccountResult:
        context = info.context
        assert context.account_deletions is not None
        until = await context.account_deletions.delete(context.signed_in_viewer, input.password, context.client)
        context.cookie.clear()
        return DeleteAccountPayload(restorable_until=until)
