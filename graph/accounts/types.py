"""Users, their sessions, the history of their sign-ins, and invitations."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry

from db.core.viewer import ROLE_SCOPES
from db.queries import accounts, api_keys, sign_ins, storage, teams
from db.queries import invitations as invitation_queries
from db.queries import passkeys as passkey_queries
from graph.accounts.enums import AccountKind, ApiScope, LoginMethod, UserRole, UserTier
from graph.core.context import Info
from graph.core.costs import costs
from graph.core.edges import connection, many, one
from graph.core.ids import Node, global_id
from graph.core.paging import Connection
from graph.core.permissions import Scope, scoped
from graph.core.scalars import BigInt


@strawberry.type(description="A sign-in of a user, and the token that it gave. It ends by `logout` or `revokeSession`, or at `expiresAt`.")
class Session(Node, prefix="session", found_by=sign_ins.session_by_id, scope=Scope.ACCOUNT):
    user_id: strawberry.Private[UUID]
    created_at: datetime = strawberry.field(description="When the user signed in.")
    last_active_at: datetime = strawberry.field(description="When the token was last used, to the minute.")
    expires_at: datetime = strawberry.field(
        description="When the session ends if the token is not used any more. Use postpones it, to an absolute limit."
    )
    ip_address: str | None = strawberry.field(description="The address from which the user signed in.")
    user_agent: str | None = strawberry.field(description="What the client called itself when the user signed in.")
    device: str | None = strawberry.field(description="The kind of device, as the client named it, such as `iPhone` or `Windows`.")
    browser: str | None = strawberry.field(description="The browser, as the client named it; for other clients their name, such as `curl`.")

    @strawberry.field(description="Whether this request came with the token of this session.")
    def is_current(self, info: Info) -> bool:
        return info.context.signed_in_viewer.key_id == self.uuid


@strawberry.type(description="An attempt to sign in. Attempts that had to wait, and were not tried, are left out.")
class LoginEvent(Node, prefix="login", found_by=sign_ins.login_event_by_id, scope=Scope.ACCOUNT):
    method: LoginMethod = strawberry.field(description="What was tried.")
    succeeded: bool = strawberry.field(description="Whether a session began.")
    reason: str | None = strawberry.field(description="Why it failed, for display; null if it succeeded.")
    ip_address: str | None = strawberry.field(description="The address from which it came.")
    user_agent: str | None = strawberry.field(description="What the client called itself.")
    created_at: datetime = strawberry.field(description="When it was tried.")


@strawberry.type(description="An identity at a provider, such as Google or GitHub, that opens the account.")
class OAuthIdentity:
    provider: str = strawberry.field(description="The provider, as `signInProviders` names it.")
    subject: str = strawberry.field(description="What the provider calls the person: an id, which it gives to nobody else.")
    email: str | None = strawberry.field(
        description="Their address at the provider, as of the last sign-in, for display; it plays no part in signing in."
    )
    linked_at: datetime = strawberry.field(description="When it was linked to the account.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(provider=row.provider, subject=row.subject, email=row.email, linked_at=row.linked_at)


@strawberry.type(
    description="A passkey (WebAuthn), which signs its user in without a password. Its device verifies them, as by a finger or a PIN."
)
class Passkey(Node, prefix="passkey", found_by=passkey_queries.by_id, scope=Scope.ACCOUNT):
    name: str = strawberry.field(description="What its user recognises it by.")
    is_backed_up: bool = strawberry.field(
        description="Whether a provider keeps it, so that it outlives its device, as of its last use; false if it is on one device alone."
    )
    created_at: datetime = strawberry.field(description="When it was added.")
    last_used_at: datetime | None = strawberry.field(description="When it last signed its user in; null if it never did.")


@strawberry.type(description="What others may know of a user whose name they come across.")
class Profile:
    account_id: strawberry.ID = strawberry.field(description="The id of the user.")
    username: str = strawberry.field(description="Their short name, unique among all users.")
    full_name: str | None = strawberry.field(description="Their full name, for display.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(account_id=global_id(User, row.id), username=row.username, full_name=row.full_name)


@strawberry.type(
    description="An invitation to register, or to a team, with one address. It is open: it was neither used nor declined nor revoked, and has not"
    " expired. It is void while its sender is no admin: of Trellis, or of the team."
)
class Invitation(Node, prefix="invitation", found_by=invitation_queries.by_id, scope=Scope.ACCOUNT):
    invited_by_id: strawberry.Private[UUID]
    team_id: strawberry.Private[UUID | None]
    email: str = strawberry.field(description="The address that it was sent to, and the only one that it can be used with.")
    role: UserRole = strawberry.field(description="The role that who uses it gets: in the team, or in the whole of Trellis.")
    team: Annotated["User", strawberry.lazy("graph.accounts.types")] | None = one(
        accounts.live_by_id, key="team_id", description="The team; null if it is to register."
    )
    invited_by: Profile = one(accounts.profile_by_id, key="invited_by_id", description="The admin who sent it.")
    created_at: datetime = strawberry.field(description="When it was sent.")
    expires_at: datetime = strawberry.field(description="When it ends by itself: seven days after it was sent.")


@strawberry.type(description="How many objects a user owns. Deleted ones do not count.")
class UserStats:
    datasets: BigInt = strawberry.field(description="The datasets.")
    pipelines: BigInt = strawberry.field(description="The pipelines.")
    models: BigInt = strawberry.field(description="The models; their versions do not count.")
    experiments: BigInt = strawberry.field(description="The experiments.")
    jobs: BigInt = strawberry.field(description="The jobs, ended ones included.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(datasets=row.datasets, pipelines=row.pipelines, models=row.models, experiments=row.experiments, jobs=row.jobs)


@strawberry.type(description="What a user stores, and how much they may store. `usedBytes` and `pendingBytes` together count in the quota.")
class StorageUse:
    used_bytes: BigInt = strawberry.field(description="The bytes of their stored objects; equal files are stored once.")
    pending_bytes: BigInt = strawberry.field(
        description="The announced bytes of uploads that are not ingested yet, or whose ingest failed and can be retried."
    )
    quota_bytes: BigInt | None = strawberry.field(
        description="The most that they may store: what an admin set for them, else what their tier has. Null if there is no limit."
    )

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(used_bytes=row.used_bytes, pending_bytes=row.pending_bytes, quota_bytes=row.quota_bytes)


@strawberry.type(description="A person is in a team, and what they may do there.")
class Membership:
    team_id: strawberry.Private[UUID]
    user_id: strawberry.Private[UUID]
    team: Annotated["User", strawberry.lazy("graph.accounts.types")] = one(accounts.by_id, key="team_id", description="The team.")
    user: Profile = one(accounts.profile_by_id, key="user_id", description="The person.")
    role: UserRole = strawberry.field(
        description="VIEWER sees what the team owns, MEMBER also changes it and runs jobs, ADMIN also manages its members. Who is VIEWER in the whole"
        " of Trellis changes nothing in a team either."
    )
    since: datetime = strawberry.field(description="When they joined.")

    @classmethod
    def of(cls, row: Any) -> Self:
        return cls(team_id=row.team_id, user_id=row.user_id, role=row.role, since=row.created_at)


@strawberry.type(
    description="An account, which may own datasets, pipelines, jobs, models and experiments: a person's, or a team's. You see yourself and your"
    " teams; admins see everyone. The account of what ships with Trellis is seen by all, and never listed."
)
class User(Node, prefix="user", found_by=accounts.live_by_id, scope=Scope.READ):
    kind: AccountKind = strawberry.field(description="Whether it is a person, a team, or the account of what ships with Trellis.")
    email: str = strawberry.field(
        description="Their e-mail address. A team has none that receives mail: it is its username at `teams.invalid`.",
        metadata=scoped(Scope.ACCOUNT),
    )
    email_verified_at: datetime | None = strawberry.field(
        description="When they last showed that mails to the address reach them; null if an operator gave it. `changeEmail` verifies it.",
        metadata=scoped(Scope.ACCOUNT),
    )
    username: str = strawberry.field(description="Their short name, unique among all users.")
    full_name: str | None = strawberry.field(description="Their full name, for display.")
    role: UserRole = strawberry.field(description="Their permissions.")
    tier: UserTier = strawberry.field(
        description="Their limits: points a minute, the storage quota, the highest priority of a job, and how many of their jobs run at once."
    )
    is_active: bool = strawberry.field(description="Whether they can sign in; the tokens of a user who is not active are refused.")
    stats: UserStats = one(accounts.counts_by_user, description="How many objects they own.")
    storage: StorageUse = one(
        storage.use_by_user,
        description="What they store, and their quota. What teams store that they made, and that have the quota 0, counts in theirs.",
    )
    credit_balance: BigInt = strawberry.field(
        description="The credits that they can spend, without those that unfinished jobs hold.", metadata=scoped(Scope.BILLING)
    )
    credits_held: BigInt = strawberry.field(
        description="The credits that unfinished jobs hold. They are charged when the job completes, and otherwise returned to `creditBalance`.",
        metadata=scoped(Scope.BILLING),
    )
    last_login_at: datetime | None = strawberry.field(
        description="When they last signed in, by whatever means; the use of API keys does not count.", metadata=scoped(Scope.ACCOUNT)
    )
    password_changed_at: datetime | None = strawberry.field(
        description="When their password was last set after they were added.", metadata=scoped(Scope.ACCOUNT)
    )
    has_totp: bool = strawberry.field(
        description="Whether signing in, but by a passkey alone, also takes a code of an app, a backup code, or a passkey.",
        metadata=scoped(Scope.ACCOUNT),
    )
    backup_codes_left: int = strawberry.field(
        description="How many of their ten backup codes have not been used; 0 without `hasTotp`.", metadata=scoped(Scope.ACCOUNT)
    )
    members: Connection[Membership] = connection(
        teams.of_team, description="Who is in the team, with the newest first; of a person, nobody."
    )
    teams: list[Membership] = many(
        teams.of_user,
        metadata=costs(entries=20),
        description="The teams that they are in, in the order in which they joined; those of others only as far as you are in them too.",
    )
    passkeys: list[Passkey] = many(
        passkey_queries.of_user,
        metadata=costs(entries=20) | scoped(Scope.ACCOUNT),
        description="Their passkeys, at most 20, the newest first.",
    )
    sessions: list[Session] = many(
        sign_ins.sessions_of_user,
        metadata=costs(entries=50) | scoped(Scope.ACCOUNT),
        description="Their sessions that have not ended, at most 50, the most recently used first.",
    )
    login_events: Connection[LoginEvent] = connection(
        sign_ins.login_events_of_user,
        description="The history of their sign-ins, failed ones included, newest first.",
        metadata=scoped(Scope.ACCOUNT),
    )
    oauth_identities: list[OAuthIdentity] = many(
        sign_ins.oauth_identities_of_user,
        metadata=costs(entries=5) | scoped(Scope.ACCOUNT),
        description="The identities at providers that open the account, at most one of each provider, in the order in which they were linked.",
    )
    invitations: Connection[Invitation] = connection(
        invitation_queries.of_account,
        description="The open invitations, newest first: of a person, those to register that they sent; of a team, those to it, for its ADMINs.",
        metadata=scoped(Scope.ACCOUNT),
    )
    created_at: datetime = strawberry.field(description="When the user was added.")
    updated_at: datetime = strawberry.field(description="When the user was last changed.")
    deleted_at: datetime | None = strawberry.field(
        description="When the user was deleted; null for who is found. Edges lead to deleted users too."
    )


@strawberry.type(
    description="A token for programs, without a sign-in. It may do what its scopes and its owner's role allow, until it expires or is revoked."
)
class ApiKey(Node, prefix="apikey", found_by=api_keys.by_id, scope=Scope.ACCOUNT):
    user_id: strawberry.Private[UUID]
    given_scopes: strawberry.Private[list[str]]
    owner_role: strawberry.Private[UserRole]
    name: str = strawberry.field(description="What it is for, in its owner's words; several keys may have one name.")
    shown_prefix: str = strawberry.field(
        name="prefix", description="What the token begins with, to recognise it by. The token is not stored."
    )

    @strawberry.field(description="What it may be used for: the scopes that it was given, as far as its owner's role allows them now.")
    def scopes(self) -> list[ApiScope]:
        allowed = ROLE_SCOPES[self.owner_role]
        return [scope for scope in map(ApiScope, self.given_scopes) if scope in allowed]

    points_per_minute: int | None = strawberry.field(
        description="How many points it may spend in a minute, within those of its owner; null if only its owner's limit it."
    )
    created_at: datetime = strawberry.field(description="When it was made.")
    expires_at: datetime | None = strawberry.field(description="From when on it is refused; null if it does not expire.")
    last_used_at: datetime | None = strawberry.field(description="When it was last used, to the minute; null if it never was.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked, since when it is refused.")
    owner: User = one(accounts.by_id, key="user_id", description="Whose rights it has.")
