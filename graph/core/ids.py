"""Global ids, `<prefix>_<32 hex>`, and the `Node` interface."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple, Self
from uuid import UUID

import strawberry

from db.core.criteria import UNMATCHED_ID
from db.core.sql import DriverUUID
from db.errors import NotFound
from graph.core.loading import Batch
from graph.core.permissions import Scope

_ID = re.compile(r"([a-z]+)_([0-9a-f]{32})", re.ASCII)


def encode(prefix: str, key: UUID) -> str:
    """Return the global id."""
    return f"{prefix}_{key.hex}"


def parse(text: str) -> tuple[str, UUID] | None:
    """Return prefix and key, or None if the text does not have the exact format of `encode`; upper-case digits do not."""
    match = _ID.fullmatch(text)
    return None if match is None else (match[1], UUID(hex=match[2]))


def lookup_key(prefix: str, text: str) -> UUID | None:
    """Return the key of an id with this prefix, for the keys of a batch; None for any other id.

    It is an instance of the driver's class, which is hashed and compared in a tenth of the time.
    """
    match = _ID.fullmatch(text)
    return DriverUUID(match[2]) if match is not None and match[1] == prefix else None


def decode(prefix: str, text: str) -> UUID:
    """Return the key of an id with this prefix. Raises `NotFound` for any other id."""
    parsed = parse(text)
    if parsed is None or parsed[0] != prefix:
        raise NotFound(text)
    return parsed[1]


def decode_optional(prefix: str, text: str | None) -> UUID | None:
    """`decode`, with None for None."""
    return None if text is None else decode(prefix, text)


def filter_id(prefix: str, text: str) -> UUID:
    """Return the key of an id in a filter; for an id with another prefix, a key that matches no row."""
    parsed = parse(text)
    return parsed[1] if parsed is not None and parsed[0] == prefix else UNMATCHED_ID


def owner_key(text: str | None) -> UUID | None:
    """Return the key of the account that is to own something new; for an id of another type, a key that no account has."""
    return None if text is None else filter_id("user", text)


class NodeRegistration(NamedTuple):
    """The type of the ids with a prefix, and the batch that looks them up; it omits deleted rows."""

    type: type[Node]
    found_by: Batch


NODE_REGISTRY: dict[str, NodeRegistration] = {}


@strawberry.interface(description="An object with a globally unique id, by which `node` returns it.")
class Node:
    """Base of types that are made from a Core row: `of` sets its columns as attributes, so a plain field is one attribute lookup.

    A type declares its prefix, the batch that finds it by id, and the scope of its fields:
    `class Dataset(Node, prefix="dataset", found_by=datasets.live_by_id, scope=Scope.READ)`.
    """

    prefix: ClassVar[str]
    scope: ClassVar[Scope]
    uuid: strawberry.Private[UUID]
    id: strawberry.ID = strawberry.field(description="Opaque, stable and globally unique: `<prefix>_<32 hex digits>`.")

    def __init_subclass__(cls, *, prefix: str, found_by: Batch, scope: Scope, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.prefix, cls.scope = prefix, scope
        NODE_REGISTRY[prefix] = NodeRegistration(cls, found_by)

    @classmethod
    def of(cls, row: Any) -> Self:
        instance = object.__new__(cls)
        attributes = instance.__dict__
        attributes.update(zip(row._fields, row, strict=True))  # a Row is a named tuple; twice as fast as its mapping
        key: UUID = attributes["id"]
        attributes["uuid"] = key
        attributes["id"] = f"{cls.prefix}_{key.hex}"
        return instance


class RowObject:
    """Base of types without an id that are made from a Core row: `of` sets its columns as attributes."""

    @classmethod
    def of(cls, row: Any) -> Self:
        instance = object.__new__(cls)
        instance.__dict__.update(zip(row._fields, row, strict=True))
        return instance


def is_made_from_columns(type_: Any) -> bool:
    """Whether the attributes of a type are the columns of a row, and not what a constructor of its own makes of them."""
    make = getattr(getattr(type_, "of", None), "__func__", None)
    return make is Node.of.__func__ or make is RowObject.of.__func__


def column_of(attribute: str) -> str:
    """Return the column that `Node.of` makes an attribute from."""
    return "id" if attribute == "uuid" else attribute


def global_id(node_type: type[Node], key: UUID) -> strawberry.ID:
    """Return the global id of a row of this type."""
    return strawberry.ID(encode(node_type.prefix, key))
