"""Create and change users, their bearer tokens, and the admin of the installation."""

from db.services.accounts.first_admin import ensure_admin
from db.services.accounts.tokens import add_token, new_token, record_token_use, revoke_token, revoke_tokens
from db.services.accounts.users import add_user, disable, enable, set_role, set_tier

__all__ = [
    "add_token",
    "add_user",
    "disable",
    "enable",
    "ensure_admin",
    "new_token",
    "record_token_use",
    "revoke_token",
    "revoke_tokens",
    "set_role",
    "set_tier",
]
