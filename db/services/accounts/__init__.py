"""Create and change users, their bearer tokens, and the admin of the installation."""

from db.services.accounts.first_admin import ensure_admin
from db.services.accounts.password_changes import PasswordChanges
from db.services.accounts.passwords import password_hash
from db.services.accounts.sessions import end_session, require_recent_check, revoke_other_sessions, revoke_session
from db.services.accounts.sign_in import SignedIn, SignIns
from db.services.accounts.tokens import add_token, new_token, record_token_use, revoke_token, revoke_tokens
from db.services.accounts.users import add_user, disable, enable, set_password_hash, set_role, set_tier

__all__ = [
    "PasswordChanges",
    "SignIns",
    "SignedIn",
    "add_token",
    "add_user",
    "disable",
    "enable",
    "end_session",
    "ensure_admin",
    "new_token",
    "password_hash",
    "record_token_use",
    "require_recent_check",
    "revoke_other_sessions",
    "revoke_session",
    "revoke_token",
    "revoke_tokens",
    "set_password_hash",
    "set_role",
    "set_tier",
]
