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


@strawberry.input(description="Whose password is to be reset.")
class RequestPasswordResetInput:
    email: str = strawberry.field(description="The e-mail address of the account, ignoring case.")


@strawberry.input(description="The token of the mail, and the new password.")
class ResetPasswordInput:
    token: str = strawberry.field(description="The token that the mail or its link has.")
    new_password: str = strawberry.field(description="The new password, 10 to 1,000 characters.")


@strawberry.input(description="The password of now, and the new one.")
class ChangePasswordInput:
    current_password: str = strawberry.field(description="The password of now: who only has the session may not change it.")
    new_password: str = strawberry.field(description="The new password, 10 to 1,000 characters.")
