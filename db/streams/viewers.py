"""The viewers of bearer tokens: each is looked up once a second, and again as soon as a notice says that its rights have changed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Collection
from uuid import UUID

from db.core.viewer import Viewer
from db.core.work import Database
from db.queries.accounts import token_hash, viewer_of_token

LIFETIME = 1.0  # seconds, counted from before the look-up: how old an answer may be if its notice was lost
MAX_VIEWERS = 10_000


class Viewers:
    """The viewers that this process looked up within the last second, by the hashes of their tokens. Unknown tokens are not kept."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._entries: OrderedDict[bytes, tuple[Viewer, float]] = OrderedDict()
        self._generation = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def of_token(self, token: str, *, fresh: bool = False) -> Viewer | None:
        """The viewer of a token; None if it is not valid. `fresh`: looked up now, for a connection that will outlive the second."""
        key = token_hash(token)
        now = time.monotonic()
        entry = None if fresh else self._entries.get(key)
        if entry is not None and now < entry[1]:
            return entry[0]
        generation = self._generation
        viewer = await viewer_of_token(self._database, token)
        if viewer is None:
            self._entries.pop(key, None)
        elif generation == self._generation:  # else the answer may be older than the change that a notice told
            self._put(key, viewer, now + LIFETIME)
        return viewer

    def known(self, token_sha256: bytes) -> Viewer | None:
        """The viewer of a token that was looked up within the last second; None if it has to be looked up."""
        entry = self._entries.get(token_sha256)
        return entry[0] if entry is not None and time.monotonic() < entry[1] else None

    def forget(self, user_ids: Collection[UUID]) -> None:
        """Look up these users' tokens again: their keys or rights have changed."""
        self._generation += 1
        for key in [key for key, (viewer, _) in self._entries.items() if viewer.id in user_ids]:
            del self._entries[key]

    def forget_all(self) -> None:
        """Look up all tokens again: notices may have been lost."""
        self._generation += 1
        self._entries.clear()

    def _put(self, key: bytes, viewer: Viewer, until: float) -> None:
        self._entries[key] = viewer, until if viewer.expires_at is None else min(until, viewer.expires_at)
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_VIEWERS:
            self._entries.popitem(last=False)
