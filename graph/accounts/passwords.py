"""Changing and resetting passwords."""

from typing import Annotated

import strawberry

from graph.accounts.inputs import ChangePasswordInput, RequestPasswordResetInput, ResetPasswordInput
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidCredentials, InvalidInput, WeakPassword

ATTEMPT = 20  # points: an attempt costs more than a read, and the points of an address bound how many it can make


@strawberry.type(description="A mail with a token was sent to the address, if it is that of an account.")
class RequestPasswordResetPayload:
    email: str = strawberry.field(description="The address as it was sent.")


@strawberry.type(description="The password is the new one. All sessions of the account have ended; its API keys stay valid.")
class ResetPasswordPayload:
    is_changed: bool = strawberry.field(description="Always true.")


@strawberry.type(description="The password is the new one. Your other sessions have ended; your API keys stay valid.")
class ChangePasswordPayload:
    is_changed: bool = strawberry.field(description="Always true.")


RequestPasswordResetResult = Annotated[
    RequestPasswordResetPayload | InvalidInput,
    strawberry.union("RequestPasswordResetResult", description="The possible results of `requestPasswordReset`."),
]
ResetPasswordResult = Annotated[
    ResetPasswordPayload | WeakPassword | InvalidInput,
    strawberry.union("ResetPasswordResult", description="The possible results of `resetPassword`."),
]
ChangePasswordResult = Annotated[
    ChangePasswordPayload | WeakPassword | InvalidCredentials,
    strawberry.union("ChangePasswordResult", description="The possible results of `changePassword`."),
]


@strawberry.type
class Passwords:
    @mutation(
        scope=Scope.PUBLIC,
        description="Send a mail with a token to the address, if it is that of an account; the answer is the same if it is not. At most three"
        " mails an hour, and ten a day, go to one address.",
        metadata=costs(ATTEMPT),
    )
    async def request_password_reset(
        self, info: Info, input: Annotated[RequestPasswordResetInput, strawberry.argument(description="The address.")]
    ) -> RequestPasswordResetResult:
        assert info.context.password_changes is not None
        await info.context.password_changes.request_reset(input.email, info.context.client)
        return RequestPasswordResetPayload(email=input.email)

    @mutation(
        scope=Scope.PUBLIC,
        description="Set a new password with the token of a mail, which is valid once. All sessions end, and a mail lists the API keys, which stay"
        " valid. Sign in with `login` afterwards.",
        metadata=costs(ATTEMPT),
    )
    async def reset_password(
        self, info: Info, input: Annotated[ResetPasswordInput, strawberry.argument(description="The token and the new password.")]
    ) -> ResetPasswordResult:
        assert info.context.password_changes is not None
        await info.context.password_changes.reset(input.token, input.new_password, info.context.client)
        return ResetPasswordPayload(is_changed=True)

    @mutation(
        scope=Scope.SESSION,
        description="Set a new password. Your other sessions end, and a mail lists the API keys, which stay valid.",
        metadata=costs(ATTEMPT),
    )
    async def change_password(
        self, info: Info, input: Annotated[ChangePasswordInput, strawberry.argument(description="The passwords.")]
    ) -> ChangePasswordResult:
        context = info.context
        assert context.password_changes is not None
        await context.password_changes.change(context.signed_in_viewer, input.current_password, input.new_password, context.client)
        return ChangePasswordPayload(is_changed=True)
