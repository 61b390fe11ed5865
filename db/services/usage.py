"""Recording of the API's use: requests are collected in batches, each written with its sums in one transaction."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import orjson
from sqlalchemy import ARRAY, BigInteger, DateTime, Double, Text, Uuid, bindparam, select, text

from db.core.sketches import index_of
from db.core.sql import DriverUUID, equals_any
from db.core.viewer import SYSTEM
from db.core.work import Database
from db.services.accounts import user_agents
from db.tables import ApiKey, ApiRequest, User, UserSession

MAX_NAME_LENGTH = 100
MAX_NAMES = 100  # of operations of one user and API key within an hour, per process: clients choose them
OTHER_NAMES = "(other)"  # in the sums: those beyond; no operation can have this name
MAX_TOTALS = 50_000  # sums that a batch keeps apart while the database does not answer

_HOUR = 3600
_COLUMNS = (
    *("created_at", "user_id", "api_key_id", "session_id", "operation_name", "operation_kind", "cost", "duration", "error_code"),
    *("request_bytes", "response_bytes", "ip_address", "user_agent"),
)


class RequestRecord(NamedTuple):
    """A request that has ended. Times are in seconds, `ended_at` since 1970; `counted_duration` is what percentiles are computed from."""

    ended_at: float
    user_id: UUID | None
    api_key_id: UUID | None
    session_id: UUID | None
    operation_name: str | None
    operation_kind: str
    cost: int
    duration: float
    error_code: str | None
    request_bytes: int
    response_bytes: int
    ip_address: str | None
    user_agent: str | None
    counted_duration: float


_Owner = tuple[int, UUID | None, UUID | None]  # hour since 1970, user, API key


@dataclass(slots=True)
class _Total:
    requests: int = 0
    errors: int = 0
    cost: int = 0
    duration: float = 0.0
    sketch: dict[int, int] = field(default_factory=dict[int, int])


class OperationNames:
    """The operation names that are summed separately, of this and the last hour."""

    def __init__(self) -> None:
        self._names: dict[_Owner, set[str]] = {}
        self._hour = 0

    def of(self, owner: _Owner, name: str) -> str:
        """The name itself, or `OTHER_NAMES` for one too many."""
        if owner[0] > self._hour:
            self._hour = owner[0]
            self._names = {known: names for known, names in self._names.items() if known[0] >= self._hour - 1}
        names = self._names.setdefault(owner, set())
        if name in names:
            return name
        if len(names) >= MAX_NAMES:
            return OTHER_NAMES
        names.add(name)
        return name


class UsageBatch:
    """Requests that are written together, and their sums. `omitted` counts the requests that are only in the sums."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.omitted = 0
        self._totals: dict[tuple[_Owner, str | None], _Total] = {}
        self._ids: list[UUID] = []

    def __bool__(self) -> bool:
        return bool(self._totals)

    def add(self, record: RequestRecord, names: OperationNames, *, keeps_record: bool) -> None:
        """Count a request. The first of a batch is kept in any case, because its id shows whether the batch was written."""
        if keeps_record or not self.records:
            self.records.append(record)
        else:
            self.omitted += 1
        owner = (int(record.ended_at) // _HOUR, record.user_id, record.api_key_id)
        total = self._totals.get((owner, record.operation_name)) or self._total(owner, record.operation_name, names)
        total.requests += 1
        total.errors += record.error_code is not None
        total.cost += record.cost
        total.duration += record.counted_duration
        index = index_of(record.counted_duration)
        total.sketch[index] = total.sketch.get(index, 0) + 1

    def _total(self, owner: _Owner, name: str | None, names: OperationNames) -> _Total:
        """The sum for a name that has none of its own yet."""
        if name is not None:
            name = names.of(owner, name)
            if len(self._totals) >= MAX_TOTALS and (owner, name) not in self._totals:
                name = OTHER_NAMES
        return self._totals.setdefault((owner, name), _Total())

    @property
    def requests(self) -> int:
        """How many requests the batch counts."""
        return sum(total.requests for total in self._totals.values())

    def drop_users(self, kept: set[UUID]) -> int:
        """Drop what belongs to other users than these; return how many requests."""
        before = self.requests
        self._totals = {key: total for key, total in self._totals.items() if key[0][1] is None or key[0][1] in kept}
        self.records = [record for record in self.records if record.user_id is None or record.user_id in kept]
        self._ids = []
        return before - self.requests

    @property
    def user_ids(self) -> set[UUID]:
        """The users whose requests these are."""
        return {owner[1] for owner, _ in self._totals if owner[1] is not None}

    def ids(self) -> Sequence[UUID]:
        """The ids of the records, the same with each call."""
        if not self._ids:
            self._ids = _uuids7([record.ended_at for record in self.records])
        return self._ids

    def rows(self) -> list[tuple[object, ...]]:
        """The records as values of the columns `id` and `_COLUMNS`."""
        times = (datetime.fromtimestamp(record.ended_at, UTC) for record in self.records)
        return [
            (key, at, *record[1:12], user_agents.shortened(record.user_agent))
            for key, at, record in zip(self.ids(), times, self.records, strict=True)
        ]

    def totals(self) -> dict[str, list[object]]:
        """The sums as arrays, in an order in which all processes lock the rows."""
        ordered = sorted(self._totals.items(), key=lambda item: (*map(str, item[0][0]), item[0][1] or ""))
        return {
            "user_ids": [owner[1] for (owner, _), _ in ordered],
            "hours": [datetime.fromtimestamp(owner[0] * _HOUR, UTC) for (owner, _), _ in ordered],
            "api_key_ids": [owner[2] for (owner, _), _ in ordered],
            "operation_names": [name for (_, name), _ in ordered],
            "requests": [total.requests for _, total in ordered],
            "errors": [total.errors for _, total in ordered],
            "costs": [total.cost for _, total in ordered],
            "durations": [total.duration for _, total in ordered],
            "sketches": [orjson.dumps(total.sketch, option=orjson.OPT_NON_STR_KEYS).decode() for _, total in ordered],
        }


def _uuids7(times: Sequence[float]) -> list[UUID]:
    """UUIDv7 of these times (RFC 9562, 5.7), whose order within a millisecond is random; as the driver's own class, which it writes as it is."""
    random = os.urandom(10 * len(times))
    ids: list[UUID] = []
    for position, seconds in enumerate(times):
        tail = int.from_bytes(random[10 * position : 10 * position + 10])
        value = (int(seconds * 1000) & (1 << 48) - 1) << 80 | 0x7 << 76 | (tail >> 62 & 0xFFF) << 64 | 0b10 << 62 | tail & (1 << 62) - 1
        ids.append(DriverUUID(value.to_bytes(16)))
    return ids


# Processes add to the same rows: the counts of two sketches are added index by index.
_ADD_TOTALS = text("""
    INSERT INTO api_metrics AS kept (user_id, hour, api_key_id, operation_name, requests, errors, cost, duration, sketch)
    SELECT user_id, hour, api_key_id, operation_name, requests, errors, cost, duration, sketch::jsonb
    FROM unnest(:user_ids, :hours, :api_key_ids, :operation_names, :requests, :errors, :costs, :durations, :sketches)
        AS added (user_id, hour, api_key_id, operation_name, requests, errors, cost, duration, sketch)
    ON CONFLICT (user_id, hour, api_key_id, operation_name) DO UPDATE SET
        requests = kept.requests + excluded.requests, errors = kept.errors + excluded.errors, cost = kept.cost + excluded.cost,
        duration = kept.duration + excluded.duration,
        sketch = (
            SELECT jsonb_object_agg(key, count) FROM (
                SELECT key, sum(value::bigint) AS count
                FROM (SELECT * FROM jsonb_each_text(kept.sketch) UNION ALL SELECT * FROM jsonb_each_text(excluded.sketch)) AS both_sketches
                GROUP BY key
            ) AS merged
        )
""").bindparams(
    bindparam("user_ids", type_=ARRAY(Uuid)),
    bindparam("hours", type_=ARRAY(DateTime(timezone=True))),
    bindparam("api_key_ids", type_=ARRAY(Uuid)),
    bindparam("operation_names", type_=ARRAY(Text)),
    bindparam("requests", type_=ARRAY(BigInteger)),
    bindparam("errors", type_=ARRAY(BigInteger)),
    bindparam("costs", type_=ARRAY(BigInteger)),
    bindparam("durations", type_=ARRAY(Double)),
    bindparam("sketches", type_=ARRAY(Text)),
)
_WRITTEN = select(ApiRequest.id).where(ApiRequest.id == bindparam("first"))


async def write(database: Database, batch: UsageBatch, *, is_retry: bool) -> None:
    """Write a batch, unless an earlier try, whose answer was lost, has written it."""
    async with database.work(SYSTEM) as work:
        if is_retry and batch.records and await work.first(_WRITTEN, {"first": batch.ids()[0]}) is not None:
            return
        await work.run(_ADD_TOTALS, batch.totals())
        await work.copy("api_requests", ("id", *_COLUMNS), batch.rows())


async def drop_unknown_users(database: Database, batch: UsageBatch) -> int:
    """Drop the requests of users who do not exist any more, which no table takes; return how many."""
    user_ids = batch.user_ids
    kept = {row.id for row in await database.rows(select(User.id).where(equals_any(User.id, list(user_ids))))}
    return 0 if kept == user_ids else batch.drop_users(kept)


async def owners_of_tokens(database: Database, hashes: Collection[bytes]) -> dict[bytes, tuple[UUID, UUID | None, UUID | None]]:
    """By the SHA-256 of tokens that are not valid: the user whose they were, and the API key or the session."""
    found: dict[bytes, tuple[UUID, UUID | None, UUID | None]] = {}
    for table in (ApiKey, UserSession):
        for row in await database.rows(
            select(table.token_sha256, table.user_id, table.id).where(equals_any(table.token_sha256, list(hashes)))
        ):
            found[row.token_sha256] = (row.user_id, row.id, None) if table is ApiKey else (row.user_id, None, row.id)
    return found
