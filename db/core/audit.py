"""The audit: who changed what, from where. A unit of work collects its changes and writes them in one statement before its commit.

An `Origin` is set where people act, around each mutation and each command. Without one nothing is recorded: what workers do by themselves is
in the events of jobs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import ClauseElement, Text, bindparam, text

from db.core.viewer import SYSTEM, Viewer


class AuditOrigin(StrEnum):
    """How a change was asked for."""

    API = "api"
    COMMAND_LINE = "command_line"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from. `address` is the client's, behind trusted proxies."""

    kind: AuditOrigin
    address: str | None = None
    request_id: str | None = None


_CURRENT: ContextVar[Origin | None] = ContextVar("audit_origin", default=None)


def current_origin() -> Origin | None:
    """The origin of what this task does; None for work that nobody asked for."""
    return _CURRENT.get()


@contextmanager
def acting(origin: Origin) -> Generator[None]:
    """Record the changes of the block as coming from `origin`."""
    token = _CURRENT.set(origin)
    try:
        yield
    finally:
        _CURRENT.reset(token)


# Columns that are in no event, whatever a service passes.
SECRET_COLUMNS = frozenset(
    {
        "password_hash",
        "password_digest",
        "secret_sha256",
        "token_sha256",
        "secret",
        "previous_secret",
        "code_sha256",
        "totp_secret",
        "totp_pending_secret",
        "webauthn_id",
        "public_key",
        "challenge_sha256",
    }
)
MAX_VALUE_BYTES = 4_096  # of one value in JSON; of a larger one its size and hash are recorded
_RENAMED = {"meta": "metadata"}  # attributes of tables whose columns have another name

INSERT_EVENTS = text("""
    INSERT INTO audit_events (actor_id, credential_id, owner_id, action, subject_id, before, after, origin, ip_address, request_id)
    SELECT * FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS event (
      actor_id uuid, credential_id text, owner_id uuid, action text, subject_id text, before jsonb, after jsonb,
      origin text, ip_address text, request_id text)
""").bindparams(bindparam("events", type_=Text))


def ref(kind: str, id_: UUID) -> str:
    """The id that the API shows for a row of a kind, which is the prefix of its ids."""
    return f"{kind}_{id_.hex}"


def differences(row: Any, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values before and after an update of `row` to `values`: those that differ. Expressions of SQL are left out."""
    present = {name: getattr(row, _RENAMED.get(name, name)) for name, value in values.items() if not isinstance(value, ClauseElement)}
    before = {name: value for name, value in present.items() if value != values[name]}
    return before, {name: values[name] for name in before}


def event(
    origin: Origin,
    actor: Viewer,
    action: str,
    subject_id: str | None,
    owner_id: UUID | None,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A row of `INSERT_EVENTS`."""
    has_actor, key = actor is not SYSTEM and origin.kind is AuditOrigin.API, actor.key_id
    return {
        "actor_id": actor.id if has_actor else None,
        "credential_id": ref("session" if actor.is_session else "apikey", key) if has_actor and key is not None else None,
        "owner_id": owner_id,
        "action": action,
        "subject_id": subject_id,
        "before": None if before is None else _document(before),
        "after": None if after is None else _document(after),
        "origin": origin.kind.value,
        "ip_address": origin.address,
        "request_id": origin.request_id,
    }


def _document(values: Mapping[str, Any]) -> dict[str, Any]:
    return {_field_name(name): _limited(_plain(value)) for name, value in values.items() if name not in SECRET_COLUMNS}


def _field_name(column: str) -> str:
    """The name of a column in the API."""
    first, *rest = _RENAMED.get(column, column).split("_")
    return first + "".join(word.capitalize() for word in rest)


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, UUID):
        return value.hex
    return value.isoformat() if isinstance(value, datetime) else value


def _limited(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    encoded = orjson.dumps(value, default=str)
    if len(encoded) <= MAX_VALUE_BYTES:
        return value
    return {"bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}
