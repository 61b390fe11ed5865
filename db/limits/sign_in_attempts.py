"""How often a sign-in may fail before the next one has to wait: by account and network, by network, and by account; and how many mails are sent.

An attempt is taken before the password is verified, and given back if it was right. Nobody is locked out: a bucket refills evenly, and
an account's known clients do not depend on what others try elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from redis.asyncio import Redis

from db.core.networks import client_network
from db.errors import TooManyAttempts
from db.limits.token_buckets import TokenBuckets
from db.stores.redis import CircuitBreaker


@dataclass(frozen=True, slots=True)
class Limit:
    """`attempts` that may fail at once, and as many again within `seconds`."""

    attempts: int
    seconds: float


# A guesser gets at most ten hashes at once: from one network, or for one account, which has two names, from many networks.
PER_ACCOUNT_AND_NETWORK = Limit(5, 900)
PER_NETWORK = Limit(10, 300)
PER_ACCOUNT = Limit(5, 900)
CODES = Limit(5, 900)  # of one user, whatever challenges they are for: of a million codes three are right
PER_SESSION = Limit(5, 900)  # passwords and codes that who has a session confirms a change with: a thief may have many networks
PASSKEYS = Limit(10, 300)  # answers of passkeys that fail, of one network; those of a known client are counted apart
PASSKEY_CHALLENGES = Limit(60, 300)  # that one network asks for; a person who cancels has used one up
MAILS_PER_NETWORK = Limit(20, 3600)
MAILS_PER_ADDRESS = Limit(3, 3600)
MAILS_PER_ADDRESS_AND_DAY = Limit(10, 86_400)
INVITATIONS_PER_USER = Limit(20, 3600)
LINKS_PER_NETWORK = Limit(20, 300)
FLOWS_PER_NETWORK = Limit(30, 300)  # sign-ins by providers that do not come back
REDIS_TIMEOUT = 1.0  # seconds; a sign-in can wait longer than a read, and each process alone would grant attempts of its own


class SignInAttempts:
    """The attempts that failed lately, counted by all processes together."""

    def __init__(self, redis: Redis) -> None:
        self._buckets = TokenBuckets(redis, CircuitBreaker(REDIS_TIMEOUT))

    async def take(self, login: str, address: str | None, *, is_known_client: bool) -> None:
        """Take an attempt to sign in as `login`. Raises `TooManyAttempts`, and then none is taken."""
        await self._take_all(_limits(login, address, is_known_client=is_known_client))

    async def take_confirmation(self, session_id: UUID, login: str, address: str | None) -> None:
        """Take an attempt at the password of `login` by who has a session of theirs. Raises `TooManyAttempts`, and then none is taken."""
        await self._take_all([_session_limit(session_id), *_limits(login, address, is_known_client=True)])

    async def give_back_confirmation(self, session_id: UUID, login: str, address: str | None) -> None:
        """Give back what `take_confirmation` took: the password was right."""
        await self._return([_session_limit(session_id), *_limits(login, address, is_known_client=True)])

    async def give_back(self, login: str, address: str | None, *, is_known_client: bool) -> None:
        """Give back what `take` took: the attempt did not fail."""
        await self._return(_limits(login, address, is_known_client=is_known_client))

    async def forgive(self, logins: Collection[str], address: str | None) -> None:
        """Forget the failures to sign in as any of `logins`, from the client's network and from all unknown clients together."""
        for login in logins:
            for bucket, limit in _limits(login, address, is_known_client=False):
                if limit is not PER_NETWORK:
                    await self._buckets.take(bucket, -limit.attempts, limit.attempts, limit.seconds)

    async def take_code(self, user_id: UUID, address: str | None, *, is_known_client: bool, session_id: UUID | None = None) -> None:
        """Take an attempt at a code of a user, by who has this session of theirs if one is given. Raises `TooManyAttempts`.

        A known client has attempts of its own: somebody else who knows the password does not use up its owner's.
        """
        await self._take_all(_code_limits(user_id, address, session_id, is_known_client=is_known_client))

    async def give_back_code(self, user_id: UUID, address: str | None, *, is_known_client: bool, session_id: UUID | None = None) -> None:
        """Give back what `take_code` took: the code was right."""
        await self._return(_code_limits(user_id, address, session_id, is_known_client=is_known_client))

    async def take_passkey(self, user_id: UUID | None, address: str | None, *, is_known_client: bool) -> None:
        """Take an attempt to sign in with a passkey. Raises `TooManyAttempts`. A known client of the user has attempts of its own."""
        bucket = _passkey_bucket(user_id, address, is_known_client=is_known_client)
        result = await self._buckets.take(bucket, 1, PASSKEYS.attempts, PASSKEYS.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)

    async def give_back_passkey(self, user_id: UUID | None, address: str | None, *, is_known_client: bool) -> None:
        """Give back what `take_passkey` took: the passkey was right."""
        await self._return([(_passkey_bucket(user_id, address, is_known_client=is_known_client), PASSKEYS)])

    async def take_passkey_challenge(self, address: str | None) -> None:
        """Take a challenge for a sign-in with a passkey, which is kept for minutes. Raises `TooManyAttempts`."""
        bucket, limit = f"sign-in:passkey:challenge:{client_network(address)}", PASSKEY_CHALLENGES
        result = await self._buckets.take(bucket, 1, limit.attempts, limit.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)

    async def take_mail(self, kind: str, email: str, address: str | None) -> bool:
        """Whether a mail of this kind may be sent to `email` at a client's request. Raises `TooManyAttempts` if its network asked for too many.

        Too many to one address are no error: it would tell who asked for one before. Each kind has its own buckets, so that nobody can keep
        a mail from its recipient by asking for others.
        """
        network, limit = client_network(address), MAILS_PER_NETWORK
        result = await self._buckets.take(f"mail:{kind}:network:{network}", 1, limit.attempts, limit.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)
        return await self._mail_wait(kind, email) is None

    async def take_mail_to(self, kind: str, email: str) -> None:
        """Take a mail of this kind to `email`, whoever asks for it. Raises `TooManyAttempts`."""
        wait = await self._mail_wait(kind, email)
        if wait is not None:
            raise TooManyAttempts(wait)

    async def take_invitation(self, user_id: UUID) -> None:
        """Take an invitation that a user sends, to whomever. Raises `TooManyAttempts`."""
        limit = INVITATIONS_PER_USER
        result = await self._buckets.take(f"mail:invitations:{user_id.hex}", 1, limit.attempts, limit.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)

    async def take_link(self, address: str | None) -> None:
        """Take an attempt of a client's network to use a token of a mail. Raises `TooManyAttempts`."""
        limit = LINKS_PER_NETWORK
        result = await self._buckets.take(f"mail:link:{client_network(address)}", 1, limit.attempts, limit.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)

    async def give_back_link(self, address: str | None) -> None:
        """Give back what `take_link` took: the token was valid."""
        await self._return([(f"mail:link:{client_network(address)}", LINKS_PER_NETWORK)])

    async def take_flow(self, address: str | None) -> None:
        """Take a sign-in by a provider that a client's network begins. Raises `TooManyAttempts`."""
        limit = FLOWS_PER_NETWORK
        result = await self._buckets.take(f"sign-in:flow:{client_network(address)}", 1, limit.attempts, limit.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)

    async def give_back_flow(self, address: str | None) -> None:
        """Give back what `take_flow` took: the provider knew who signs in."""
        await self._return([(f"sign-in:flow:{client_network(address)}", FLOWS_PER_NETWORK)])

    async def _mail_wait(self, kind: str, email: str) -> float | None:
        """Take a mail to an address; return None, or the seconds to wait for the next one, and then none is taken."""
        recipient = hashlib.sha256(email.lower().encode()).hexdigest()
        taken: list[tuple[str, Limit]] = []
        for name, limit in (("address", MAILS_PER_ADDRESS), ("day", MAILS_PER_ADDRESS_AND_DAY)):
            bucket = f"mail:{kind}:{name}:{recipient}"
            result = await self._buckets.take(bucket, 1, limit.attempts, limit.seconds)
            if not result.ok:
                await self._return(taken)
                return result.retry_in
            taken.append((bucket, limit))
        return None

    async def _take_all(self, limits: Sequence[tuple[str, Limit]]) -> None:
        """Take one of each bucket. Raises `TooManyAttempts` if one has none, and then none is taken."""
        for number, (bucket, limit) in enumerate(limits):
            result = await self._buckets.take(bucket, 1, limit.attempts, limit.seconds)
            if not result.ok:
                await self._return(limits[:number])
                raise TooManyAttempts(result.retry_in)

    async def _return(self, taken: Sequence[tuple[str, Limit]]) -> None:
        for bucket, limit in taken:
            await self._buckets.take(bucket, -1, limit.attempts, limit.seconds)


def _limits(login: str, address: str | None, *, is_known_client: bool) -> list[tuple[str, Limit]]:
    """The buckets of an attempt. By the name as it is compared, not by the account: whether that exists must not show in what is counted."""
    account, network = hashlib.sha256(login.lower().encode()).hexdigest(), client_network(address)
    limits = [(f"sign-in:{account}:{network}", PER_ACCOUNT_AND_NETWORK)]
    if not is_known_client:
        limits += [(f"sign-in:network:{network}", PER_NETWORK), (f"sign-in:account:{account}", PER_ACCOUNT)]
    return limits


def _code_limits(user_id: UUID, address: str | None, session_id: UUID | None, *, is_known_client: bool) -> list[tuple[str, Limit]]:
    bucket = f"sign-in:code:{user_id.hex}:{client_network(address) if is_known_client else 'elsewhere'}"
    return [*([] if session_id is None else [_session_limit(session_id)]), (bucket, CODES)]


def _session_limit(session_id: UUID) -> tuple[str, Limit]:
    return f"sign-in:session:{session_id.hex}", PER_SESSION


def _passkey_bucket(user_id: UUID | None, address: str | None, *, is_known_client: bool) -> str:
    of_user = user_id.hex if user_id is not None and is_known_client else "elsewhere"
    return f"sign-in:passkey:{of_user}:{client_network(address)}"
