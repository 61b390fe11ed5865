"""How often a sign-in may fail before the next one has to wait: by account and network, by network, and by account; and how many mails are sent.

An attempt is taken before the password is verified, and given back if it was right. Nobody is locked out: a bucket refills evenly, and
an account's known clients do not depend on what others try elsewhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

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
MAILS_PER_NETWORK = Limit(20, 3600)
MAILS_PER_ADDRESS = Limit(3, 3600)
REDIS_TIMEOUT = 1.0  # seconds; a sign-in can wait longer than a read, and each process alone would grant attempts of its own


class SignInAttempts:
    """The attempts that failed lately, counted by all processes together."""

    def __init__(self, redis: Redis) -> None:
        self._buckets = TokenBuckets(redis, CircuitBreaker(REDIS_TIMEOUT))

    async def take(self, login: str, address: str | None, *, is_known_client: bool) -> None:
        """Take an attempt to sign in as `login`. Raises `TooManyAttempts`, and then none is taken."""
        taken: list[tuple[str, Limit]] = []
        for bucket, limit in _limits(login, address, is_known_client=is_known_client):
            result = await self._buckets.take(bucket, 1, limit.attempts, limit.seconds)
            if not result.ok:
                await self._return(taken)
                raise TooManyAttempts(result.retry_in)
            taken.append((bucket, limit))

    async def give_back(self, login: str, address: str | None, *, is_known_client: bool) -> None:
        """Give back what `take` took: the attempt did not fail."""
        await self._return(_limits(login, address, is_known_client=is_known_client))

    async def take_mail(self, email: str, address: str | None) -> bool:
        """Whether a mail may be sent to `email` at a client's request. Raises `TooManyAttempts` if its network asked for too many.

        Too many to one address are no error: it would tell who asked for one before.
        """
        network, limit = client_network(address), MAILS_PER_NETWORK
        result = await self._buckets.take(f"mail:network:{network}", 1, limit.attempts, limit.seconds)
        if not result.ok:
            raise TooManyAttempts(result.retry_in)
        recipient, limit = hashlib.sha256(email.lower().encode()).hexdigest(), MAILS_PER_ADDRESS
        return (await self._buckets.take(f"mail:address:{recipient}", 1, limit.attempts, limit.seconds)).ok

    async def _return(self, taken: list[tuple[str, Limit]]) -> None:
        for bucket, limit in taken:
            await self._buckets.take(bucket, -1, limit.attempts, limit.seconds)


def _limits(login: str, address: str | None, *, is_known_client: bool) -> list[tuple[str, Limit]]:
    """The buckets of an attempt. By the name as it is compared, not by the account: whether that exists must not show in what is counted."""
    account, network = hashlib.sha256(login.lower().encode()).hexdigest(), client_network(address)
    limits = [(f"sign-in:{account}:{network}", PER_ACCOUNT_AND_NETWORK)]
    if not is_known_client:
        limits += [(f"sign-in:network:{network}", PER_NETWORK), (f"sign-in:account:{account}", PER_ACCOUNT)]
    return limits
