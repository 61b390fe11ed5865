"""The codes of a second factor: six digits of an app by time (TOTP, RFC 6238), and backup codes. Each is accepted once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

import structlog
from pyotp.totp import TOTP
from sqlalchemy import delete, func, insert, update

from db.core.work import Work
from db.errors import InvalidCredentials, NoSecretKey, invalid
from db.services.sealing import seal, unseal
from db.settings import StateSettings
from db.tables import BackupCode, User
from db.tables.accounts import LoginMethod

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ISSUER = "Trellis"
SECRET_LENGTH = 20  # bytes, as RFC 4226 recommends
STEP = 30  # seconds for which an app shows a code
WINDOW = 1  # codes before and after that of now, for clocks that differ
BACKUP_CODES = 10  # of a user
BACKUP_CODE_LENGTH = 16  # characters of base32: 80 bits, so that one SHA-256 keeps them
_PURPOSE = "trellis totp secret"
_TOTP = re.compile(r"\d{6}", re.ASCII)
_BACKUP = re.compile(rf"[A-Z2-7]{{{BACKUP_CODE_LENGTH}}}")
_SEPARATORS = re.compile(r"[\s-]+")


@dataclass(frozen=True, slots=True)
class GivenCode:
    """A code as somebody gave it, without separators."""

    method: LoginMethod
    text: str


@dataclass(frozen=True, slots=True)
class TotpSecret:
    """The secret that an app and Trellis share: as the app takes it, and as the database keeps it."""

    text: str
    sealed: bytes

    def uri(self, account: str) -> str:
        """Return the URI that apps read from a QR code."""
        return TOTP(self.text).provisioning_uri(name=account, issuer_name=ISSUER)


def new_secret(settings: StateSettings, user_id: UUID) -> TotpSecret:
    """Return a new secret. Raises `NoSecretKey`."""
    secret = secrets.token_bytes(SECRET_LENGTH)
    return TotpSecret(base64.b32encode(secret).decode(), seal(settings, _PURPOSE, user_id, secret))


def parse_code(code: str) -> GivenCode:
    """Return a code without its spaces and dashes. Raises `InvalidInput` for what is no code."""
    text = _SEPARATORS.sub("", code).upper()
    if _TOTP.fullmatch(text):
        return GivenCode(LoginMethod.TOTP, text)
    if _BACKUP.fullmatch(text):
        return GivenCode(LoginMethod.BACKUP_CODE, text)
    raise invalid("code", message=f"A code has 6 digits, a backup code {BACKUP_CODE_LENGTH} letters and digits.")


def matching_step(settings: StateSettings, user_id: UUID, sealed_secret: bytes, code: str) -> int | None:
    """Return the number of the time step, of those around now, that has this code; None if none has it."""
    try:
        secret = unseal(settings, _PURPOSE, user_id, sealed_secret)
    except NoSecretKey:
        secret = None
    if secret is None:
        log.error("totp_secret_unreadable", user_id=str(user_id), hint="TRELLIS_SECRET_KEY is another one than when the factor was added.")
        return None
    totp, now = TOTP(base64.b32encode(secret).decode(), interval=STEP), int(time.time()) // STEP
    matching = [step for step in range(now - WINDOW, now + WINDOW + 1) if hmac.compare_digest(totp.generate_otp(step), code)]
    return max(matching, default=None)


async def use_code(work: Work, settings: StateSettings, user_id: UUID, sealed_secret: bytes, code: GivenCode) -> bool:
    """Accept a code once, by compare-and-set; False if it is not right, or was used. The user's row is locked, and has this secret."""
    if code.method is LoginMethod.BACKUP_CODE:
        is_unused = (BackupCode.user_id == user_id, BackupCode.code_sha256 == _hash(code.text), BackupCode.used_at.is_(None))
        return await work.run(update(BackupCode).where(*is_unused).values(used_at=func.now())) == 1
    step = matching_step(settings, user_id, sealed_secret, code.text)
    if step is None:
        return False
    is_newer = (User.id == user_id, User.totp_secret == sealed_secret, User.totp_step < step)
    return await work.run(update(User).where(*is_newer).values(totp_step=step)) == 1


async def replace_backup_codes(work: Work, user_id: UUID) -> list[str]:
    """Replace a user's backup codes; return the new ones, which are not stored. The user's row is locked."""
    codes = ["".join(secrets.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") for _ in range(BACKUP_CODE_LENGTH)) for _ in range(BACKUP_CODES)]
    await forget_backup_codes(work, user_id)
    await work.run(insert(BackupCode), [{"user_id": user_id, "code_sha256": _hash(code)} for code in codes])
    return ["-".join(code[start : start + 4] for start in range(0, BACKUP_CODE_LENGTH, 4)).lower() for code in codes]


async def forget_backup_codes(work: Work, user_id: UUID) -> None:
    """Delete a user's backup codes."""
    await work.run(delete(BackupCode).where(BackupCode.user_id == user_id))


def wrong_code() -> InvalidCredentials:
    """The error for a code that is not right, or was used."""
    return InvalidCredentials("This code is not valid, or was used already. Take the next one that your app shows, or a backup code.")


def _hash(code: str) -> bytes:
    return hashlib.sha256(code.encode()).digest()
