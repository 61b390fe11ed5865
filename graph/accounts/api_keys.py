"""Making, replacing and revoking API keys. Only sessions may, so a stolen key ends when it is revoked, and gives no other."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

import strawberry

from db.queries import api_keys as api_key_queries
from db.services import accounts
from graph.accounts.inputs import CreateApiKeyInput, RevokeApiKeyInput
from graph.accounts.types import ApiKey
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import one
from graph.core.ids import decode, decode_optional
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NotFound, QuotaExceeded, WrongState

CREATION = 20  # points: the rows of keys are kept


@strawberry.type(description="The API key was made.")
class CreateApiKeyPayload:
    key_id: strawberry.Private[UUID]
    secret: str = strawberry.field(
        description="The token: send it as `Authorization: Bearer <token>`, and keep it secret. It is shown only here."
    )
    api_key: ApiKey = one(api_key_queries.by_id, key="key_id", description="The new key.")


@strawberry.type(description="The API key is refused from now on, and websockets and streams opened with it are closed.")
class RevokeApiKeyPayload:
    key_id: strawberry.Private[UUID]
    api_key: ApiKey = one(api_key_queries.by_id, key="key_id", description="The revoked key.")


CreateApiKeyResult = Annotated[
    CreateApiKeyPayload | NotFound | InvalidInput | WrongState | QuotaExceeded,
    strawberry.union("CreateApiKeyResult", description="The possible results of `createApiKey`."),
]
RevokeApiKeyResult = Annotated[
    RevokeApiKeyPayload | NotFound, strawberry.union("RevokeApiKeyResult", description="The possible results of `revokeApiKey`.")
]


@strawberry.type
class ApiKeys:
    @mutation(
        scope=Scope.SESSION,
        description="Make an API key. It takes a session whose password was checked in the last ten minutes; else sign in again, with `login`. To"
        " replace a key without an outage, name the old one in `replaces`: both are valid for a time.",
        metadata=costs(CREATION),
    )
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key to make.")]
    ) -> CreateApiKeyResult:
        new_key = accounts.NewKey(
            name=input.name,
            scopes=frozenset(input.scopes),
            expires_at=input.expires_at,
            points_per_minute=input.points_per_minute,
            replaces=decode_optional("apikey", input.replaces),
            overlap=timedelta(seconds=input.overlap),
        )
        async with info.context.work() as work:
            key_id, secret = await accounts.create_api_key(work, new_key)
        return CreateApiKeyPayload(key_id=key_id, secret=secret)

    @mutation(
        scope=Scope.SESSION,
        description="Revoke an API key of yours; for admins, anybody's. Revoking it again changes nothing.",
    )
    async def revoke_api_key(
        self, info: Info, input: Annotated[RevokeApiKeyInput, strawberry.argument(description="The key.")]
    ) -> RevokeApiKeyResult:
        async with info.context.work() as work:
            key_id = await accounts.revoke_api_key(work, decode("apikey", input.id))
        return RevokeApiKeyPayload(key_id=key_id)
