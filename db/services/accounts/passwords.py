"""Passwords: which are accepted, and their hashes, made and verified in threads of their own.

Argon2id with the parameters that OWASP's Password Storage Cheat Sheet recommends first: 19 MiB, two passes, one lane. Hashes of bcrypt,
which users of another system bring along, are verified too; a sign-in replaces them.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import unicodedata
from collections.abc import AsyncGenerator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, Self, TypeVar

import bcrypt
from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from db.core.checks import Checks
from db.errors import Unavailable, WeakPassword
from db.services.accounts.common_passwords import MIN_BESIDE_NAME, is_common, is_mostly

MIN_LENGTH = 10
MAX_LENGTH = 1_000
MIN_DISTINCT = 5
MAX_WAITING = 32  # hashes that a process queues; each takes some 50 ms
NICENESS = 5  # of the hashing threads: on a busy machine the event loop goes first
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_BCRYPT_LENGTH = 72  # bytes of a password that bcrypt hashes; the library refuses longer ones
MAX_BCRYPT_COST = 13  # one more doubles the time, and a failed sign-in must not take longer than `sign_in.FAILURE_TIME`

T = TypeVar("T")
_argon2 = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


def check_new_password(checks: Checks, password: str, name: str, *own_names: str) -> None:
    """Add issues named `name` for a password that is too easy to guess; `own_names` are the user's address and name."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        checks.add(name, message=f"A password has {MIN_LENGTH} to {MAX_LENGTH:,} characters; this one has {len(password):,}.")
    elif "\x00" in password:
        checks.add(name, message="The character NUL cannot be a part of a password.")
    elif len(set(password)) < MIN_DISTINCT:
        checks.add(name, message=f"A password needs at least {MIN_DISTINCT} different characters.")
    else:
        _check_not_guessed(checks, unicodedata.normalize("NFKC", password).casefold(), name, own_names)


def _check_not_guessed(checks: Checks, password: str, name: str, own_names: Collection[str]) -> None:
    if password in {own_name.casefold() for own_name in own_names}:
        checks.add(name, message="The password must differ from the address and the name of its user.")
    elif is_mostly(password, own_names):
        message = f"A password needs at least {MIN_BESIDE_NAME} characters besides the address or the name of its user."
        checks.add(name, message=message)
    elif is_common(password):
        checks.add(
            name,
            message="This password is on lists of common ones, perhaps with a few digits or signs added, and is guessed first. Choose another,"
            " such as several words that do not belong together.",
        )


def check_imported_hash(checks: Checks, password_hash: str, name: str) -> None:
    """Add an issue named `name` for what is no hash that `verify` reads."""
    match = _BCRYPT.fullmatch(password_hash)
    if match is None and not password_hash.startswith("$argon2id$"):
        checks.add(name, message="A hash begins with $2a$, $2b$ or $2y$ (bcrypt), or with $argon2id$.")
    elif match is not None and not 4 <= int(match[1]) <= MAX_BCRYPT_COST:
        checks.add(name, message=f"bcrypt's cost is {match[1]} here; 04 to {MAX_BCRYPT_COST} can be verified.")
    elif match is None and verify(password_hash, "") is None:
        checks.add(name, message="This Argon2 hash is damaged, or takes more than 64 MiB or 4 passes.")


def password_hash(password: str, *own_names: str, is_hash: bool = False) -> str:
    """Return the hash of a new password, or check one that was made elsewhere (`is_hash`). Raises `WeakPassword` or `InvalidInput`."""
    if not is_hash:
        require_strong(password, "password", *own_names)
        return make_hash(password)
    checks = Checks()
    check_imported_hash(checks, password, "hash")
    checks.raise_if_invalid()
    return password


def require_strong(password: str, name: str, *own_names: str) -> None:
    """Raise `WeakPassword` with issues named `name`, see `check_new_password`. Run it in `HashingThreads`: the first call loads lists."""
    checks = Checks()
    check_new_password(checks, password, name, *own_names)
    if checks.issues:
        raise WeakPassword(checks.issues)


def is_possible(password: str) -> bool:
    """Whether a user can have this password; what cannot be is not worth a hash."""
    return 0 < len(password) <= MAX_LENGTH and "\x00" not in password


def make_hash(password: str) -> str:
    """Return a new hash; it takes some 50 ms of CPU time."""
    return _argon2.hash(_normalized(password))


# Verified where there is no user, so that both take the same time. Of 256 random bits that nobody kept.
DUMMY_HASH = "$argon2id$v=19$m=19456,t=2,p=1$4fD//pWTjWM5VMInkLlLbg$gBf7AfHkZLeeItEOpTvuxbEwmGANyv8v8h125q9GzWs"


def verify(password_hash: str, password: str) -> bool | None:
    """Whether the password has this hash; None for a hash that cannot be read."""
    if _BCRYPT.fullmatch(password_hash):  # the system that made the hash did not normalize
        return bcrypt.checkpw(password.encode("utf-8", "surrogatepass")[:_BCRYPT_LENGTH], password_hash.encode())
    try:
        parameters = extract_parameters(password_hash)
        if parameters.memory_cost > 65_536 or parameters.time_cost > 4:
            return None
        return _argon2.verify(password_hash, _normalized(password))
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError):
        return None


def needs_rehash(password_hash: str) -> bool:
    """Whether the hash is of another algorithm, or of other parameters than new ones."""
    return not password_hash.startswith("$argon2id$") or _argon2.check_needs_rehash(password_hash)


def _normalized(password: str) -> bytes:
    """NFKC, as NIST SP 800-63B recommends: keyboards write the same character in several ways."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


class HashingThreads:
    """The threads of a process that hash passwords, and verify passkeys: one at a time, with a low priority, and a bounded queue.

    Argon2 and bcrypt release the interpreter's lock, so the event loop goes on meanwhile.
    """

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._waiting = 0

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncGenerator[Self]:
        """Start a thread on first use; it ends with the block."""
        executor = ThreadPoolExecutor(1, thread_name_prefix="passwords", initializer=_lower_priority)
        try:
            yield cls(executor)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that takes tens of milliseconds at most. Raises `Unavailable` if too many wait already."""
        if self._waiting >= MAX_WAITING:
            raise Unavailable("sign-in", "Too many passwords wait to be hashed.")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)
        finally:
            self._waiting -= 1


def _lower_priority() -> None:
    with suppress(OSError, AttributeError):  # only Linux has a priority for each thread
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
