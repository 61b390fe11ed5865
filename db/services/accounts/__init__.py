"""Create and change users, their bearer tokens, and the admin of the installation."""

from db.services.accounts.administration import administer, disable, enable, set_quota, set_role, set_tier
from db.services.accounts.api_keys import NewKey, create_api_key, revoke_api_key
from db.services.accounts.deletion import AccountDeletions, delete_account, delete_by_email
from db.services.accounts.email_changes import EmailChanges
from db.services.accounts.first_admin import ensure_admin, knows_token
from db.services.accounts.invitations import first_admin_id, invite, revoke_invitation
from db.services.accounts.members import leave_team, remove_team_member, set_team_role
from db.services.accounts.oauth import Identity, ProviderSignIns, unlink_identity
from db.services.accounts.oauth_flows import Flow, FlowSecret
from db.services.accounts.passkeys import Passkeys
from db.services.accounts.password_changes import PasswordChanges
from db.services.accounts.passwords import password_hash
from db.services.accounts.registrations import NewRegistration, Registrations, VerifiedAddress
from db.services.accounts.restorations import Restorations
from db.services.accounts.restoring import restore_by_login
from db.services.accounts.second_factors import SecondFactors, reset_second_factor
from db.services.accounts.session_start import SignedIn
from db.services.accounts.sessions import end_session, require_recent_check, revoke_other_sessions, revoke_session
from db.services.accounts.sign_in import FactorRequired, SignIns
from db.services.accounts.team_deletion import delete_team
from db.services.accounts.team_invitations import TeamInvitations
from db.services.accounts.teams import create_team
from db.services.accounts.tokens import add_token, new_token, record_token_use, replace_token, revoke_token, revoke_tokens
from db.services.accounts.users import add_user, set_password_hash, update_account

__all__ = [
    "AccountDeletions",
    "EmailChanges",
    "FactorRequired",
    "Flow",
    "FlowSecret",
    "Identity",
    "NewKey",
    "NewRegistration",
    "Passkeys",
    "PasswordChanges",
    "ProviderSignIns",
    "Registrations",
    "Restorations",
    "SecondFactors",
    "SignIns",
    "SignedIn",
    "TeamInvitations",
    "VerifiedAddress",
    "add_token",
    "add_user",
    "administer",
    "create_api_key",
    "create_team",
    "delete_account",
    "delete_by_email",
    "delete_team",
    "disable",
    "enable",
    "end_session",
    "ensure_admin",
    "first_admin_id",
    "invite",
    "knows_token",
    "leave_team",
    "new_token",
    "password_hash",
    "record_token_use",
    "remove_team_member",
    "replace_token",
    "require_recent_check",
    "reset_second_factor",
    "restore_by_login",
    "revoke_api_key",
    "revoke_invitation",
    "revoke_other_sessions",
    "revoke_session",
    "revoke_token",
    "revoke_tokens",
    "set_password_hash",
    "set_quota",
    "set_role",
    "set_team_role",
    "set_tier",
    "unlink_identity",
    "update_account",
]
