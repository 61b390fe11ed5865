"""Documents that clients registered by their SHA-256, in Redis: at most a thousand, each for a day after its last registration."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import structlog
from redis.asyncio import Redis

from db.stores.redis import CircuitBreaker, RedisUnavailable

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PREFIX = "trellis:document:"
INDEX = "trellis:documents"
METADATA = "trellis:documents:facts"
TTL = 86_400  # seconds
MAX_DOCUMENTS = 1_000  # of all clients together; the oldest is evicted, and its client sends it again
MAX_DOCUMENTS_PER_OWNER = 300  # that one user registered
MAX_BYTES = 16 * 1024 * 1024  # of all texts: Redis also holds the queue, which must not run out of memory

# KEYS: the document, the index, and the metadata (size and owner). ARGV: text, hash, size, owner, now, TTL, prefix of the keys, and the
# three limits: documents, documents of one owner, bytes.
_PUT = """
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[6])
redis.call('ZADD', KEYS[2], ARGV[5], ARGV[2])
redis.call('HSET', KEYS[3], ARGV[2], ARGV[3] .. ':' .. ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[6])
redis.call('EXPIRE', KEYS[3], ARGV[6])
local kept, bytes, each = 0, 0, {}
local found = redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')
for at = #found - 1, 1, -2 do
  local hash = found[at]
  local size, owner = string.match(redis.call('HGET', KEYS[3], hash) or '0:', '^(%d+):(.*)$')
  local own = (each[owner] or 0) + 1
  if tonumber(found[at + 1]) <= ARGV[5] - ARGV[6] or kept >= tonumber(ARGV[8]) or own > tonumber(ARGV[9]) or bytes + size > tonumber(ARGV[10]) then
    redis.call('DEL', ARGV[7] .. hash)
    redis.call('ZREM', KEYS[2], hash)
    redis.call('HDEL', KEYS[3], hash)
  else
    kept, bytes, each[owner] = kept + 1, bytes + size, own
  end
end
"""


class RegisteredDocuments:
    """Shared by all processes. While Redis is away none is found, and clients send the text."""

    def __init__(self, redis: Redis, breaker: CircuitBreaker) -> None:
        script: Any = redis.register_script(_PUT)  # pyright: ignore[reportUnknownMemberType] - redis types its scripts thinly
        self._put = script
        self._redis: Any = redis
        self._breaker = breaker

    async def get(self, sha256: str) -> str | None:
        """Return the text that was registered under this hash (lower-case hex digits)."""
        try:
            encoded: bytes | None = await self._breaker.call(lambda: self._redis.get(PREFIX + sha256))
        except RedisUnavailable:
            return None
        return None if encoded is None else encoded.decode()

    async def put(self, sha256: str, text: str, size: int, owner: UUID) -> None:
        """Register a text of `size` bytes. The caller checks that the hash is the text's, and that the document is valid."""
        args = [text, sha256, size, owner.hex, int(time.time()), TTL, PREFIX, MAX_DOCUMENTS, MAX_DOCUMENTS_PER_OWNER, MAX_BYTES]
        try:
            await self._breaker.call(lambda: self._put(keys=[PREFIX + sha256, INDEX, METADATA], args=args))
        except RedisUnavailable:
            log.info("document_not_registered", sha256=sha256)
