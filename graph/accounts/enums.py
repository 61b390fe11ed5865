"""Enums of accounts."""

from __future__ import annotations

from enum import Enum

from db.core.viewer import AccountKind, ApiScope, UserRole, UserTier
from db.services.accounts.registrations import RegistrationPolicy
from db.tables.accounts import LoginMethod
from graph.core.enums import describe

__all__ = ["AccountKind", "ApiScope", "LoginMethod", "LoginTransport", "RegistrationPolicy", "UserRole", "UserTier"]

describe(
    UserRole,
    "The permissions of a user.",
    VIEWER="Reads what is theirs and changes nothing.",
    MEMBER="Reads and changes what is theirs.",
    ADMIN="Reads and changes everything.",
)
describe(
    UserTier,
    "How much a user may use. It sets limits, never permissions.",
    FREE="The tier of new users.",
    PRO="Higher limits.",
    ENTERPRISE="The highest limits, or none.",
)
describe(
    RegistrationPolicy,
    "Who may register; the operator says so.",
    CLOSED="Nobody: operators make the accounts.",
    INVITED="Who has the token of an invitation that an admin sent.",
    OPEN="Everybody with an address of their own.",
)
describe(
    LoginMethod,
    "What a sign-in was tried with.",
    PASSWORD="A password.",  # noqa: S106 - the description of a method
    TOTP="A code that an app shows for 30 seconds (TOTP, RFC 6238), after the password.",
    BACKUP_CODE="A backup code, after the password, which replaces the app's code once.",
    OAUTH="The word of a provider, such as Google or GitHub, at which an identity is linked to the account.",
    PASSKEY="A passkey, alone or after the password.",
)


class LoginTransport(Enum):
    TOKEN = "token"  # noqa: S105 - the name of a transport
    COOKIE = "cookie"


describe(
    LoginTransport,
    "How a sign-in hands over the token of its session.",
    TOKEN="In the answer, for programs.",  # noqa: S106 - the description of a transport
    COOKIE="In a cookie that scripts cannot read, for pages of Trellis's own origin. It takes a POST with the header `GraphQL-Preflight: 1`, by https"
    " or on a loopback address, and counts only in requests with that header, and in websockets.",
)

describe(
    AccountKind,
    "What an account is. Each owns datasets, pipelines and whatever else, and has its own names, credits and storage.",
    PERSON="A person, or a program with credentials of its own, who signs in.",
    TEAM="A team, which nobody signs in to: its members do what their roles in it allow.",
    SYSTEM="The account of what ships with Trellis.",
)

describe(
    ApiScope,
    "What an API key may be used for. Each field needs one of them; most keys need READ.",
    READ="To read datasets, pipelines, jobs, models, experiments and runs.",
    WRITE="To change datasets, pipelines and models.",
    RUN="To run pipelines, and to cancel and retry jobs.",
    TRACK="To record experiments.",
    ACCOUNT="To read what concerns the account: its address, sessions, sign-ins and API keys.",
    BILLING="To read the credits of the account.",
    ADMIN="For keys of admins: to see and change what is everybody's. Without it they see what is their owner's.",
)
