"""Signing in and out."""

from typing import Annotated

import strawberry

from db.services import accounts
from db.tables.accounts import LoginMethod
from graph.accounts.administration import Administration
from graph.accounts.api_keys import ApiKeys
from graph.accounts.deletion import Deletion
from graph.accounts.inputs import ConfirmLoginInput, LoginInput, RestoreAccountInput, RevokeSessionInput
from graph.accounts.logins import LoginPayload, cookie_to_set, go_on_as
from graph.accounts.members import Members
from graph.accounts.passkeys import Passkeys
from graph.accounts.passwords import ATTEMPT, Passwords
from graph.accounts.providers import Providers
from graph.accounts.registration import Registration
from graph.accounts.second_factor import SecondFactor
from graph.accounts.teams import Teams
from graph.accounts.types import Session
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.ids import decode, global_id
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidCredentials, InvalidInput, NameTaken, NotFound


@strawberry.type(
    description="The password is right, and your account also takes a code, or a passkey: no session has begun. Pass the challenge and the code to"
    " `confirmLogin`, or the challenge and the passkey's answer to `finishPasskeyLogin`, within 5 minutes."
)
class TotpRequired:
    challenge: str = strawberry.field(
        description="What `confirmLogin` and `finishPasskeyLogin` take, for one session. Keep it secret; it is shown only here."
    )
    methods: list[LoginMethod] = strawberry.field(
        metadata=costs(entries=1), description="The kinds of codes that you have, and PASSKEY if you have one."
    )


@strawberry.type(description="The session has ended: its token is refused, and websockets and streams opened with it are closed.")
class LogoutPayload:
    session_id: strawberry.ID = strawberry.field(description="The id of the session that ended.")


@strawberry.type(description="The session has ended: its token is refused, and websockets and streams opened with it are closed.")
class RevokeSessionPayload:
    session_id: strawberry.ID = strawberry.field(description="The id of the session that ended.")


@strawberry.type(description="All other sessions have ended.")
class RevokeOtherSessionsPayload:
    count: int = strawberry.field(description="How many sessions ended.")


LoginResult = Annotated[
    LoginPayload | TotpRequired | InvalidCredentials | InvalidInput,
    strawberry.union("LoginResult", description="The possible results of `login`."),
]
ConfirmLoginResult = Annotated[
    LoginPayload | NameTaken | InvalidCredentials | InvalidInput,
    strawberry.union("ConfirmLoginResult", description="The possible results of `confirmLogin`."),
]
RestoreAccountResult = Annotated[
    LoginPayload | TotpRequired | NameTaken | InvalidCredentials | InvalidInput,
    strawberry.union("RestoreAccountResult", description="The possible results of `restoreAccount`."),
]
LogoutResult = Annotated[LogoutPayload, strawberry.union("LogoutResult", description="The possible results of `logout`.")]
RevokeSessionResult = Annotated[
    RevokeSessionPayload | NotFound, strawberry.union("RevokeSessionResult", description="The possible results of `revokeSession`.")
]
RevokeOtherSessionsResult = Annotated[
    RevokeOtherSessionsPayload,
    strawberry.union("RevokeOtherSessionsResult", description="The possible results of `revokeOtherSessions`."),
]


@strawberry.type
class AccountMutations(Administration, Passwords, Registration, SecondFactor, Passkeys, Providers, ApiKeys, Teams, Members, Deletion):
    @mutation(
        scope=Scope.PUBLIC,
        description="Sign in with a password, which begins a session, or asks for a code first if you have an app for them. After a few failures"
        " the next attempts have to wait: the error has the code RATE_LIMITED and `retryAfter`. A failure tells neither by its text nor by its"
        " time whether the account exists.",
        metadata=costs(ATTEMPT),
    )
    async def login(self, info: Info, input: Annotated[LoginInput, strawberry.argument(description="Who signs in.")]) -> LoginResult:
        assert info.context.sign_ins is not None
        cookie = cookie_to_set(info, input.transport)
        result = await info.context.sign_ins.sign_in(input.login, input.password, info.context.client)
        if isinstance(result, accounts.FactorRequired):
            return TotpRequired(challenge=result.challenge, methods=list(result.methods))
        return go_on_as(info, result, cookie)

    @mutation(
        scope=Scope.PUBLIC,
        description="Sign in with the challenge of `login` and a code, which begins a session. A code is accepted once, and so is a challenge; after"
        " a few wrong codes, the next ones have to wait, whatever their challenge: the error has the code RATE_LIMITED and `retryAfter`.",
        metadata=costs(ATTEMPT),
    )
    async def confirm_login(
        self, info: Info, input: Annotated[ConfirmLoginInput, strawberry.argument(description="The challenge and the code.")]
    ) -> ConfirmLoginResult:
        assert info.context.sign_ins is not None
        cookie = cookie_to_set(info, input.transport)
        signed_in = await info.context.sign_ins.confirm(input.challenge, input.code, info.context.client)
        return go_on_as(info, signed_in, cookie)

    @mutation(
        scope=Scope.PUBLIC,
        description="Restore the account that you deleted with `deleteAccount`, with all that it owned, and sign in to it. Its API keys stay revoked."
        " If you have an app for codes, `confirmLogin` takes the challenge and a code, and restores it. If the username was taken meanwhile, pass"
        " another. What fails counts as a failed `login`, and does not tell whether the account exists.",
        metadata=costs(ATTEMPT),
    )
    async def restore_account(
        self, info: Info, input: Annotated[RestoreAccountInput, strawberry.argument(description="The account.")]
    ) -> RestoreAccountResult:
        assert info.context.restorations is not None
        cookie = cookie_to_set(info, input.transport)
        result = await info.context.restorations.restore(input.login, input.password, input.username, info.context.client)
        if isinstance(result, accounts.FactorRequired):
            return TotpRequired(challenge=result.challenge, methods=list(result.methods))
        return go_on_as(info, result, cookie)

    @mutation(scope=Scope.SESSION, description="End the session whose token was sent.")
    async def logout(self, info: Info) -> LogoutResult:
        async with info.context.work() as work:
            session_id = work.viewer.require_session()
            await accounts.end_session(work, session_id)
        info.context.cookie.clear()
        return LogoutPayload(session_id=global_id(Session, session_id))

    @mutation(
        scope=Scope.SESSION,
        description="End a session of yours, such as that of a device you lost; for admins, anybody's.",
    )
    async def revoke_session(
        self, info: Info, input: Annotated[RevokeSessionInput, strawberry.argument(description="The session.")]
    ) -> RevokeSessionResult:
        async with info.context.work() as work:
            session_id = await accounts.revoke_session(work, decode("session", input.id))
        return RevokeSessionPayload(session_id=global_id(Session, session_id))

    @mutation(scope=Scope.SESSION, description="End all of your sessions except the one whose token was sent. API keys stay valid.")
    async def revoke_other_sessions(self, info: Info) -> RevokeOtherSessionsResult:
        async with info.context.work() as work:
            return RevokeOtherSessionsPayload(count=await accounts.revoke_other_sessions(work))
