"""The accounts that identities at providers open: sign-in, registration, linking and unlinking.

An identity is its issuer and subject. An e-mail address never finds an account: a provider may give one address to several people in turn, or take
anybody's word for it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, insert, select, update
from sqlalchemy import delete as delete_rows

from db.core.checks import Checks
from db.core.networks import ClientInfo
from db.core.unique import translate_unique_violation
from db.core.viewer import SYSTEM, UserRole, Viewer
from db.core.work import Database, Work
from db.errors import InvalidInput, NotFound, UsernameTaken, WrongState
from db.queries import invitations as queries
from db.services import account_tokens
from db.services.accounts import invitations
from db.services.accounts.oauth_flows import Flow, FlowSecret, begin_flow, use_flow
from db.services.accounts.restorations import restore_by_proof
from db.services.accounts.session_start import SignedIn, record_sign_in
from db.services.accounts.sessions import require_recent_check
from db.services.accounts.sign_in import AttemptLimits, FactorRequired, SignIns
from db.services.accounts.users import check_email, check_username, insert_user, lock_own_account
from db.services.accounts.ways_in import has_way_in
from db.services.mail.callbacks import lift_suppression
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import LoginChallenge, OAuthIdentity, User
from db.tables.accounts import LoginMethod
from db.tables.mail import EmailTemplate

MAX_NAMES = 5  # that are tried for a new account
_NOT_IN_USERNAMES = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a provider says that somebody is. `names` are wishes for a username, best first."""

    provider: str
    issuer: str
    subject: str
    email: str | None = None
    is_email_verified: bool = False
    full_name: str | None = None
    names: tuple[str, ...] = ()


class ProviderSignIns:
    """The sign-ins by providers through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, sign_ins: SignIns, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._sign_ins = sign_ins
        self._settings = settings

    @property
    def session_lifetime(self) -> float:
        """Seconds after which a session ends in any case."""
        return self._sign_ins.session_lifetime

    async def begin(
        self,
        provider: str,
        next_path: str,
        client: ClientInfo,
        viewer: Viewer | None = None,
        invitation: str | None = None,
        *,
        restores: bool = False,
        username: str | None = None,
    ) -> FlowSecret:
        """Begin a sign-in, which ends at `next_path`; with a `viewer` one that links an identity to their account; or one that restores a
        deleted account, named `username` if given.

        Raises `TooManyAttempts`, `InvalidInput` for an invitation that is not valid or for what is no username, and for linking `WrongState` or
        `Forbidden`.
        """
        if username is not None:
            checks = Checks()
            check_username(checks, username)
            checks.raise_if_invalid()
        await self._attempts.take_flow(client.address)
        invitation_id = None
        if invitation is not None:
            invitation_id = account_tokens.read_token(self._settings, invitation, account_tokens.INVITATION)
            if invitation_id is None or not await self._database.rows(queries.usable(invitation_id)):
                raise account_tokens.not_valid()
        session_id = None if viewer is None else viewer.require_session()
        async with self._database.work(viewer or SYSTEM) as work:
            if viewer is not None:
                await _require_recent_check(work)
            return await begin_flow(work, Flow(provider, next_path, session_id, invitation_id, restores, username if restores else None))

    async def come_back(self, secret: FlowSecret) -> Flow | None:
        """Return the sign-in whose browser came back; None if there is none, or it came back before."""
        async with self._database.work(SYSTEM) as work:
            return await use_flow(work, secret)

    async def sign_in(self, identity: Identity, flow: Flow, client: ClientInfo) -> SignedIn | FactorRequired:
        """Begin a session of the user whom the identity opens, or of a new one, or ask for a second factor.

        A deleted account is restored if that is what the sign-in is for. Raises `WrongState`, whose text says what the person can do.
        """
        async with self._database.work(SYSTEM) as work:
            user = await _lock_owner(work, identity)
            if user is not None and user.deleted_at is not None and flow.restores:
                result = await restore_by_proof(work, self._settings, user, LoginMethod.OAUTH, client, flow.username)
            else:
                result = None if user is None else await self._sign_ins.begin_or_challenge(work, user, LoginMethod.OAUTH, client)
            if user is not None and result is None:
                reason = "The account is disabled." if user.deleted_at is None else "The account is deleted."
                await record_sign_in(work, user.id, LoginMethod.OAUTH, client, reason)
        if user is not None and result is None:
            raise _cannot_be_used(user, identity.provider, is_too_late=flow.restores)
        if result is None:
            result = await self._register(identity, flow, client)
        await self._attempts.give_back_flow(client.address)
        return result

    async def link(self, viewer: Viewer, identity: Identity, client: ClientInfo) -> None:
        """Have the identity open the viewer's account; one that does already is left as it is. Its owner is told by mail.

        Raises `WrongState` if the sign-in was long ago, or the identity or another one of the provider is linked already.
        """
        async with self._database.work(viewer) as work:
            await _require_recent_check(work)
            await lock_own_account(work)
            user = await work.one(select(User.id, User.email).where(User.id == viewer.id).with_for_update())
            owner = await work.first(select(OAuthIdentity.user_id).where(*_is(identity)))
            if owner is None or owner.user_id != viewer.id:
                await _insert(work, user, identity)
                await queue_mail(work, EmailTemplate.IDENTITY_LINKED, user.email, user.id)
        await self._attempts.give_back_flow(client.address)

    async def _register(self, identity: Identity, flow: Flow, client: ClientInfo) -> SignedIn:
        """Make an account for an identity that opens none. Raises `WrongState`."""
        provider = identity.provider
        is_allowed = self._settings.registration == "open" or (self._settings.registration == "invited" and flow.invitation_id is not None)
        if not is_allowed or flow.restores:
            raise WrongState(
                "NOT_LINKED",
                f"No account here is opened by this identity of {provider}. If you have an account, sign in to it in another way, and link"
                f" {provider} there. If you have none, ask whoever runs this Trellis for one, or for an invitation.",
            )
        if identity.email is None or not identity.is_email_verified or not _is_address(identity.email):
            raise WrongState(
                "NOT_VERIFIED",
                f"{provider} does not say that an e-mail address of yours is verified, so no account is made by it. Verify your address there and"
                " try again, or register with a password.",
            )
        for name in _usernames(identity):
            try:
                async with self._database.work(SYSTEM) as work:
                    return await self._create(work, identity, identity.email, name, flow.invitation_id, client)
            except UsernameTaken:
                continue
        raise WrongState("NO_USERNAME", "No free username was found for you. Try again, or register with a password.")

    async def _create(
        self, work: Work, identity: Identity, email: str, username: str, invitation_id: UUID | None, client: ClientInfo
    ) -> SignedIn:
        role = UserRole.MEMBER
        if invitation_id is not None:
            role = await _use_invitation(work, invitation_id, email)
        values = {"email": email, "username": username, "full_name": _full_name(identity), "role": role}
        has_account = WrongState(
            "ADDRESS_TAKEN",
            f"{email} has an account here that this identity of {identity.provider} does not open. Sign in to the account in another way, and link"
            f" {identity.provider} there. If you do not know its password, reset it.",
        )
        with translate_unique_violation("uq_users_email", has_account):
            user_id = await insert_user(work, {**values, "email_verified_at": func.now()})
        await lift_suppression(work, email)
        user = await work.one(select(User.id, User.password_hash, User.totp_secret).where(User.id == user_id))
        work.record("register", "user", user_id, user_id, after={**values, "provider": identity.provider})
        await _insert(work, user, identity)
        result = await self._sign_ins.begin_or_challenge(work, user, LoginMethod.OAUTH, client)
        assert isinstance(result, SignedIn), "nobody else knows of the user yet"
        return result


async def unlink_identity(work: Work, provider: str, providers: Collection[str]) -> UUID:
    """Have the viewer's identity at a provider open their account no more; return the viewer's id. `providers` are those of the settings.

    Raises `NotFound` if there is none, and `WrongState` if the sign-in was long ago, or no way to sign in would be left.
    """
    await require_recent_check(work)
    # Two identities that are unlinked at once wait for each other here, so one of them stays.
    user = await work.one(select(User.id, User.email, User.password_hash).where(User.id == work.viewer.id).with_for_update())
    is_it = (OAuthIdentity.user_id == user.id, OAuthIdentity.provider == provider)
    unlinked = delete_rows(OAuthIdentity).where(*is_it).returning(OAuthIdentity.issuer, OAuthIdentity.subject)
    identity = await work.first(unlinked) if provider.isprintable() else None  # PostgreSQL takes no NUL
    if identity is None:
        raise NotFound(provider)
    if not await has_way_in(work, user, providers):
        raise WrongState(
            "LAST_WAY_IN",
            "Without this identity you could not sign in any more. Link another one first, or set a password with `requestPasswordReset`.",
        )
    # A sign-in by the identity that waits for a code is over, too.
    waiting = update(LoginChallenge).where(LoginChallenge.user_id == user.id, LoginChallenge.used_at.is_(None))
    await work.run(waiting.values(used_at=func.now()))
    await queue_mail(work, EmailTemplate.IDENTITY_UNLINKED, user.email, user.id)
    before = {"provider": provider, "issuer": identity.issuer, "subject": identity.subject}
    work.record("unlink_oauth_identity", "user", user.id, user.id, before=before)
    return user.id


async def _lock_owner(work: Work, identity: Identity) -> Row[Any] | None:
    """Lock the user whom an identity opens, and note the address that the provider says; None if it opens no account.

    Whoever unlinks locks the user first as well, and the identity is looked up again after that.
    """
    owner = select(OAuthIdentity.user_id).where(*_is(identity)).scalar_subquery()
    columns = (User.id, User.password_hash, User.totp_secret, User.deleted_at)
    user = await work.first(select(*columns).where(User.id == owner).with_for_update())
    if user is None:
        return None
    still_linked = update(OAuthIdentity).where(*_is(identity), OAuthIdentity.user_id == user.id).values(email=identity.email)
    return user if await work.run(still_linked) else None


def _cannot_be_used(user: Row[Any], provider: str, *, is_too_late: bool) -> WrongState:
    if user.deleted_at is None:
        return WrongState("DISABLED", "This account cannot be used. Ask whoever runs this Trellis.")
    if is_too_late:
        return WrongState(
            "DELETED", "This account cannot be restored by you: it was deleted by whoever runs this Trellis, or too long ago. Ask them."
        )
    return WrongState(
        "DELETED",
        f"This account was deleted. On the page for signing in, choose to restore a deleted account, by {provider} or another way in of it; whoever"
        " runs this Trellis can restore it for some time.",
    )


async def _insert(work: Work, user: Row[Any], identity: Identity) -> None:
    provider = identity.provider
    values = {"provider": provider, "issuer": identity.issuer, "subject": identity.subject, "email": identity.email}
    elsewhere = WrongState(
        "LINKED_ELSEWHERE",
        f"This identity of {provider} opens another account. Sign in to that one and unlink it there, or use another identity.",
    )
    other = WrongState("ALREADY_LINKED", f"Another identity of {provider} opens your account. Unlink that one first.")
    with (
        translate_unique_violation("uq_oauth_identities_issuer_subject", elsewhere),
        translate_unique_violation("uq_oauth_identities_user_id_provider", other),
    ):
        await work.run(insert(OAuthIdentity).values(user_id=user.id, **values))
    work.record("link_oauth_identity", "user", user.id, user.id, after=values)


async def _use_invitation(work: Work, invitation_id: UUID, email: str) -> UserRole:
    """Use an invitation of this address; return its role. Raises `WrongState`."""
    message = "The invitation cannot be used: it is for another address than {}, was used or revoked, or is older than seven days."
    try:
        invitation = await invitations.use_invitation(work, invitation_id)
    except InvalidInput:
        raise WrongState("NOT_INVITED", message.format(email)) from None
    if invitation.email.lower() != email.lower():
        raise WrongState("NOT_INVITED", message.format(email))
    return invitation.role


async def _require_recent_check(work: Work) -> None:
    """Raises `WrongState` in words for a page, where `require_recent_check` names the API."""
    try:
        await require_recent_check(work)
    except WrongState as error:
        raise WrongState(
            error.state, "You signed in more than 10 minutes ago. Sign out, sign in again, and then link the identity."
        ) from None


def _is(identity: Identity) -> tuple[ColumnElement[bool], ...]:
    return (OAuthIdentity.issuer == identity.issuer, OAuthIdentity.subject == identity.subject)


def _is_address(email: str) -> bool:
    checks = Checks()
    check_email(checks, email, "email")
    return not checks.issues


def _full_name(identity: Identity) -> str | None:
    """The name as it is shown, printable and of limited length; None without one."""
    return "".join(character for character in (identity.full_name or "")[:200] if character.isprintable()).strip() or None


def _usernames(identity: Identity) -> list[str]:
    """Names to try, the first of which is what the person is called elsewhere."""
    wishes = (_NOT_IN_USERNAMES.sub("-", wish).strip("-._")[:50] for wish in (*identity.names, (identity.email or "").partition("@")[0]))
    base = next((wish for wish in wishes if wish), "user")
    return [base, *(f"{base}-{secrets.randbelow(10**6):06}" for _ in range(MAX_NAMES - 1))]
