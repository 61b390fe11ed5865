"""Inputs of mutations on accounts."""

from __future__ import annotations

import strawberry
from strawberry import ID


@strawberry.input(description="Who signs in, and their password.")
class LoginInput:
    login: str = strawberry.field(description="The e-mail address or the username, ignoring case.")
    password: str = strawberry.field(description="The password. It is neither stored nor logged.")


@strawberry.input(description="The session to end.")
class RevokeSessionInput:
    id: ID = strawberry.field(description="The session, as `sessions` lists it.")
