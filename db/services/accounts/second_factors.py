"""The second factor of a user: an app that shows codes by time, and backup codes. Changes of it take the password, and its owner is told by mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, select, update

from db.core.networks import ClientInfo
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import InvalidCredentials, NotFound, WrongState
from db.queries.accounts import has_login
from db.services.accounts import codes
from db.services.accounts.codes import GivenCode
from db.services.accounts.confirmations import confirm_password, wrong_password
from db.services.accounts.passwords import HashingThreads
from db.services.accounts.sessions import end_sessions, require_recent_check
from db.services.accounts.sign_in import AttemptLimits
from db.services.mail.sending import queue_mail
from db.settings import StateSettings
from db.tables import User
from db.tables.accounts import LoginMethod
from db.tables.mail import EmailTemplate
from db.tables.passkeys import Passkey

TO_CONFIRM = timedelta(minutes=10)  # within which a new secret is confirmed
_NO_TOTP: dict[str, Any] = {"totp_secret": None, "totp_step": None, "totp_pending_secret": None, "totp_pending_at": None}
_PENDING = User.totp_pending_at > func.now() - TO_CONFIRM


@dataclass(frozen=True, slots=True)
class Enrollment:
    """A secret to be put into an app. It is shown once."""

    secret: str
    uri: str
    qr_svg: str


class SecondFactors:
    """The changes of second factors through a process."""

    def __init__(self, database: Database, attempts: AttemptLimits, threads: HashingThreads, settings: StateSettings) -> None:
        self._database = database
        self._attempts = attempts
        self._threads = threads
        self._settings = settings

    async def enroll(self, viewer: Viewer, password: str, client: ClientInfo) -> Enrollment:
        """Make a new secret, which counts once it is confirmed; until then an earlier one does.

        Raises `WrongState` if the sign-in was long ago, `InvalidCredentials`, `TooManyAttempts` or `NoSecretKey`.
        """
        async with self._database.work(viewer) as work:
            await require_recent_check(work)
        user = await self._user(viewer)
        await confirm_password(self._attempts, self._threads, viewer, user, password, client)
        secret = codes.new_secret(self._settings, viewer.id)
        statement = update(User).where(User.id == viewer.id, User.password_hash == user.password_hash)
        async with self._database.work(viewer) as work:
            if not await work.run(statement.values(totp_pending_secret=secret.sealed, totp_pending_at=func.now())):
                raise wrong_password()
            work.record("enroll_totp", "user", viewer.id, viewer.id)
        uri = secret.uri(user.email)
        return Enrollment(secret.text, uri, _qr_code(uri))

    async def confirm(self, viewer: Viewer, code: str, client: ClientInfo) -> list[str]:
        """Make the new secret the one that counts; return new backup codes. Other sessions end.

        Raises `WrongState` if no secret waits, `InvalidInput`, `InvalidCredentials` or `TooManyAttempts`.
        """
        session_id = viewer.require_session()
        rows = await self._database.rows(select(User.totp_pending_secret).where(User.id == viewer.id, _PENDING))
        if not rows:
            raise _nothing_to_confirm()
        pending: bytes = rows[0].totp_pending_secret
        given = codes.parse_code(code)
        await self._attempts.take_code(viewer.id, client.address, is_known_client=True, session_id=viewer.key_id)
        is_totp = given.method is LoginMethod.TOTP
        step = codes.matching_step(self._settings, viewer.id, pending, given.text) if is_totp else None
        if step is None:
            raise InvalidCredentials(
                "This is not the code that the app shows for the new secret. Check the time of its device, and try again."
            )
        statement = update(User).where(User.id == viewer.id, User.totp_pending_secret == pending, _PENDING)
        async with self._database.work(viewer) as work:
            email = await work.scalar(statement.values(_NO_TOTP | {"totp_secret": pending, "totp_step": step}).returning(User.email))
            if email is None:
                raise _nothing_to_confirm()
            backup_codes = await codes.replace_backup_codes(work, viewer.id)
            count = await end_sessions(work, viewer.id, kept=session_id)
            await queue_mail(work, EmailTemplate.TOTP_ADDED, email, viewer.id)
            work.record("confirm_totp", "user", viewer.id, viewer.id, after={"ended_sessions": count})
        await self._attempts.give_back_code(viewer.id, client.address, is_known_client=True, session_id=viewer.key_id)
        return backup_codes

    async def disable(self, viewer: Viewer, password: str, code: str, client: ClientInfo) -> None:
        """Remove the factor. Raises `WrongState` if there is none, `InvalidInput`, `InvalidCredentials` or `TooManyAttempts`."""
        user, given = await self._check(viewer, password, code, client)
        async with self._database.work(viewer) as work:
            await self._use_code(work, user, given)
            await _remove(work, viewer.id, user.email)
            work.record("disable_totp", "user", viewer.id, viewer.id)
        await self._attempts.give_back_code(viewer.id, client.address, is_known_client=True, session_id=viewer.key_id)

    async def regenerate_backup_codes(self, viewer: Viewer, password: str, code: str, client: ClientInfo) -> list[str]:
        """Replace the backup codes; return the new ones. Raises as `disable`."""
        user, given = await self._check(viewer, password, code, client)
        async with self._database.work(viewer) as work:
            await self._use_code(work, user, given)
            backup_codes = await codes.replace_backup_codes(work, viewer.id)
            await queue_mail(work, EmailTemplate.BACKUP_CODES_REPLACED, user.email, viewer.id)
            work.record("regenerate_backup_codes", "user", viewer.id, viewer.id)
        await self._attempts.give_back_code(viewer.id, client.address, is_known_client=True, session_id=viewer.key_id)
        return backup_codes

    async def _check(self, viewer: Viewer, password: str, code: str, client: ClientInfo) -> tuple[Row[Any], GivenCode]:
        """Verify the password, and take an attempt at the code; return the user and the code."""
        viewer.require_session()
        user = await self._user(viewer)
        if user.totp_secret is None:
            raise _no_factor()
        given = codes.parse_code(code)
        await confirm_password(self._attempts, self._threads, viewer, user, password, client)
        await self._attempts.take_code(viewer.id, client.address, is_known_client=True, session_id=viewer.key_id)
        return user, given

    async def _user(self, viewer: Viewer) -> Row[Any]:
        statement = select(User.id, User.email, User.password_hash, User.totp_secret)
        return (await self._database.rows(statement.where(User.id == viewer.id)))[0]

    async def _use_code(self, work: Work, user: Row[Any], given: GivenCode) -> None:
        """Lock the user's row, and accept the code once. Raises `InvalidCredentials`, also for a user that was changed meanwhile."""
        is_same = (User.id == user.id, User.password_hash == user.password_hash, User.totp_secret == user.totp_secret)
        if not await work.scalar(select(User.id).where(*is_same).with_for_update()):
            raise codes.wrong_code()
        if not await codes.use_code(work, self._settings, user.id, user.totp_secret, given):
            raise codes.wrong_code()


async def reset_second_factor(work: Work, login: str) -> None:
    """Remove the app and the passkeys of the user with this address or name, whose devices are lost, and end their sessions: who found them must
    neither sign in nor be signed in.

    Raises `NotFound`, or `WrongState` if there are none.
    """
    user = await work.first(select(User.id, User.email, User.totp_secret).where(has_login(login)).with_for_update())
    if user is None:
        raise NotFound(login)
    count = await work.run(delete(Passkey).where(Passkey.user_id == user.id))
    if user.totp_secret is None and not count:
        raise WrongState("NO_SECOND_FACTOR", "The user has neither an app for codes nor a passkey.")
    if user.totp_secret is not None:
        await _remove(work, user.id, user.email)
    if count:
        await queue_mail(work, EmailTemplate.PASSKEY_REMOVED, user.email, user.id)
    ended = await end_sessions(work, user.id)
    work.record("reset_totp", "user", user.id, user.id, after={"removed_passkeys": count, "ended_sessions": ended})


async def _remove(work: Work, user_id: UUID, email: str) -> None:
    """Remove the factor of a user whose row is locked, and tell them."""
    await work.run(update(User).where(User.id == user_id).values(_NO_TOTP))
    await codes.forget_backup_codes(work, user_id)
    await queue_mail(work, EmailTemplate.TOTP_REMOVED, email, user_id)


def _qr_code(text: str) -> str:
    """Return an SVG image of the text."""
    import segno  # here, because few requests need it

    image = BytesIO()
    segno.make_qr(text, error="m").save(image, kind="svg", scale=4, light="#fff", xmldecl=False, nl=False)
    return image.getvalue().decode()


def _no_factor() -> WrongState:
    return WrongState("NO_SECOND_FACTOR", "There is no second factor. `enrollTotp` begins to add one.")


def _nothing_to_confirm() -> WrongState:
    minutes = TO_CONFIRM // timedelta(minutes=1)
    return WrongState(
        "NOTHING_TO_CONFIRM",
        f"No secret waits to be confirmed: it was confirmed, or is older than {minutes} minutes. Begin with `enrollTotp`.",
    )
