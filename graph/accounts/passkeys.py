"""Adding and removing passkeys, and signing in with one."""

from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import passkeys as passkey_queries
from graph.accounts.inputs import (
    BeginPasskeyLoginInput,
    BeginPasskeyRegistrationInput,
    FinishPasskeyLoginInput,
    FinishPasskeyRegistrationInput,
    RemovePasskeyInput,
)
from graph.accounts.logins import LoginPayload, cookie_to_set, go_on_as
from graph.accounts.passwords import ATTEMPT
from graph.accounts.types import Passkey
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidCredentials, InvalidInput, NameTaken, NotFound, QuotaExceeded, WrongState
from graph.core.scalars import JSON


@strawberry.type(description="A device may make a passkey for your account, within 5 minutes and for this session.")
class BeginPasskeyRegistrationPayload:
    options: JSON = strawberry.field(
        description="What `navigator.credentials.create` takes as `publicKey`, after `PublicKeyCredential.parseCreationOptionsFromJSON`."
    )


@strawberry.type(description="The passkey was added: it signs you in without a password, and stands for a code where one is asked for.")
class FinishPasskeyRegistrationPayload:
    passkey_id: strawberry.Private[UUID]
    passkey: Passkey = one(passkey_queries.by_id, key="passkey_id", description="The new passkey.")


@strawberry.type(description="A passkey may sign in, within 5 minutes.")
class BeginPasskeyLoginPayload:
    options: JSON = strawberry.field(
        description="What `navigator.credentials.get` takes as `publicKey`, after `PublicKeyCredential.parseRequestOptionsFromJSON`."
    )


@strawberry.type(description="The passkey is not accepted any more. The device still has it: remove it there, too.")
class RemovePasskeyPayload:
    passkey_id: strawberry.ID = strawberry.field(description="The id of the passkey that was removed.")


BeginPasskeyRegistrationResult = Annotated[
    BeginPasskeyRegistrationPayload | NameTaken | InvalidInput | WrongState | QuotaExceeded,
    strawberry.union("BeginPasskeyRegistrationResult", description="The possible results of `beginPasskeyRegistration`."),
]
FinishPasskeyRegistrationResult = Annotated[
    FinishPasskeyRegistrationPayload | NameTaken | InvalidInput | WrongState | QuotaExceeded,
    strawberry.union("FinishPasskeyRegistrationResult", description="The possible results of `finishPasskeyRegistration`."),
]
BeginPasskeyLoginResult = Annotated[
    BeginPasskeyLoginPayload | InvalidInput | WrongState,
    strawberry.union("BeginPasskeyLoginResult", description="The possible results of `beginPasskeyLogin`."),
]
FinishPasskeyLoginResult = Annotated[
    LoginPayload | InvalidCredentials | InvalidInput | WrongState | NameTaken,
    strawberry.union("FinishPasskeyLoginResult", description="The possible results of `finishPasskeyLogin`."),
]
RemovePasskeyResult = Annotated[
    RemovePasskeyPayload | NotFound | WrongState,
    strawberry.union("RemovePasskeyResult", description="The possible results of `removePasskey`."),
]


@strawberry.type
class Passkeys:
    @mutation(
        scope=Scope.SESSION,
        description="Begin to add a passkey (WebAuthn). Takes a session that began less than 10 minutes ago; with an older one, sign in again.",
        metadata=costs(ATTEMPT),
    )
    async def begin_passkey_registration(
        self, info: Info, input: Annotated[BeginPasskeyRegistrationInput, strawberry.argument(description="The passkey.")]
    ) -> BeginPasskeyRegistrationResult:
        context = info.context
        assert context.passkeys is not None
        options = await context.passkeys.begin_registration(context.signed_in_viewer, input.name, context.client)
        return BeginPasskeyRegistrationPayload(options=options)

    @mutation(
        scope=Scope.SESSION,
        description="Add the passkey that a device made with the options of `beginPasskeyRegistration`. A mail tells you of it.",
        metadata=costs(ATTEMPT),
    )
    async def finish_passkey_registration(
        self, info: Info, input: Annotated[FinishPasskeyRegistrationInput, strawberry.argument(description="The answer of the device.")]
    ) -> FinishPasskeyRegistrationResult:
        context = info.context
        assert context.passkeys is not None
        passkey_id = await context.passkeys.finish_registration(context.signed_in_viewer, input.credential, context.client)
        return FinishPasskeyRegistrationPayload(passkey_id=passkey_id)

    @mutation(
        scope=Scope.PUBLIC,
        description="Begin to sign in with a passkey. Nobody needs to say who they are: the passkey knows its user. With the challenge of `login` it is"
        " the second factor.",
        metadata=costs(ATTEMPT),
    )
    async def begin_passkey_login(
        self, info: Info, input: Annotated[BeginPasskeyLoginInput, strawberry.argument(description="The challenge of `login`, if any.")]
    ) -> BeginPasskeyLoginResult:
        context = info.context
        assert context.passkeys is not None
        options = await context.passkeys.begin_login(input.challenge, context.client)
        return BeginPasskeyLoginPayload(options=options)

    @mutation(
        scope=Scope.PUBLIC,
        description="Sign in with what a passkey answered to the options of `beginPasskeyLogin`, which begins a session. It has verified you, so no code"
        " is asked for. A failure tells neither by its text nor by its time whether the passkey exists; after a few, the next ones have to wait: the"
        " error has the code RATE_LIMITED and `retryAfter`. With `restore`, it restores the account that you deleted, as `restoreAccount` does; NameTaken"
        " is possible only then.",
        metadata=costs(ATTEMPT),
    )
    async def finish_passkey_login(
        self, info: Info, input: Annotated[FinishPasskeyLoginInput, strawberry.argument(description="The answer of the passkey.")]
    ) -> FinishPasskeyLoginResult:
        context = info.context
        assert context.passkeys is not None
        cookie = cookie_to_set(info, input.transport)
        username = input.username if input.restore else None
        arguments = input.credential, input.challenge, context.client
        signed_in = await context.passkeys.finish_login(*arguments, restores=input.restore, username=username)
        return go_on_as(info, signed_in, cookie)

    @mutation(
        scope=Scope.SESSION,
        description="Remove a passkey of yours. Takes a session that began less than 10 minutes ago. The last one stays if you could not sign in without it. A mail"
        " tells you of it.",
        metadata=costs(ATTEMPT),
    )
    async def remove_passkey(
        self, info: Info, input: Annotated[RemovePasskeyInput, strawberry.argument(description="The passkey.")]
    ) -> RemovePasskeyResult:
        context = info.context
        assert context.passkeys is not None
        await context.passkeys.remove(context.signed_in_viewer, decode("passkey", input.id), context.sign_in_providers)
        return RemovePasskeyPayload(passkey_id=input.id)
