"""Documents that clients registered by their SHA-256, in Redis: a few hundred, each for a day after its last registration."""

from __future__ import annotations

import time
from typing import Any

import structlog
from redis.asyncio import Redis

from db.stores.patience import Away, Patience

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PREFIX = "trellis:document:"
INDEX = "trellis:documents"
EXPIRES = 86_400  # seconds
KEPT = 1_000  # documents of all clients together; the one registered first leaves first, and its client sends it again

# KEYS: the document, the index. ARGV: its text, its hash, now, seconds it is kept, how many are kept, prefix of the keys.
_PUT = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3] - ARGV[4])
for _, hash in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1 - ARGV[5])) do
  redis.call('DEL', ARGV[6] .. hash)
  redis.call('ZREM', KEYS[2], hash)
end
redis.call('EXPIRE', KEYS[2], ARGV[4])
"""


class RegisteredDocuments:
    """Shared by all processes. A Redis that is away knows none, and clients send the text along."""

    def __init__(self, redis: Redis, patience: Patience) -> None:
        script: Any = redis.register_script(_PUT)  # pyright: ignore[reportUnknownMemberType] - redis types its scripts thinly
        self._put = script
        self._redis: Any = redis
        self._patience = patience

    async def get(self, sha256: str) -> str | None:
        """The text that was registered under this hash, in lower-case hex digits."""
        try:
            found: bytes | None = await self._patience.ask(lambda: self._redis.get(PREFIX + sha256))
        except Away:
            return None
        return None if found is None else found.decode()

    async def put(self, sha256: str, text: str) -> None:
        """Keep it. That the hash is the text's own is the caller's to check."""
        args = [text, sha256, int(time.time()), EXPIRES, KEPT, PREFIX]
        try:
            await self._patience.ask(lambda: self._put(keys=[PREFIX + sha256, INDEX], args=args))
        except Away:
            log.info("document_not_registered", sha256=sha256)
