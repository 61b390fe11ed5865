"""Ids outside, `<prefix>_<32 hex>`, and the interface of everything that has one."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NamedTuple, Self
from uuid import UUID

import strawberry

from db.core.criteria import UNMATCHED_ID
from db.errors import NotFound
from graph.core.loading import Batch

_ID = re.compile(r"([a-z]+)_([0-9a-f]{32})", re.ASCII)


def encode(prefix: str, key: UUID) -> str:
    """The id that clients see."""
    return f"{prefix}_{key.hex}"


def parse(text: str) -> tuple[str, UUID] | None:
    """Prefix and key; None for whatever was not made by `encode`, upper-case digits included."""
    match = _ID.fullmatch(text)
    return None if match is None else (match[1], UUID(hex=match[2]))


def decode(prefix: str, text: str) -> UUID:
    """The key in an id of this kind. Any other id names nothing here: `NotFound`."""
    parsed = parse(text)
    if parsed is None or parsed[0] != prefix:
        raise NotFound(text)
    return parsed[1]


def decode_optional(prefix: str, text: str | None) -> UUID | None:
    """`decode` where an id was given."""
    return None if text is None else decode(prefix, text)


def filter_id(prefix: str, text: str) -> UUID:
    """The key in an id that a filter names; one of another kind stands for no row, as an id that was never made does."""
    parsed = parse(text)
    return parsed[1] if parsed is not None and parsed[0] == prefix else UNMATCHED_ID


class NodeRegistration(NamedTuple):
    """What ids of a prefix name, and the batch that looks them up: without deleted rows."""

    type: type[Node]
    found_by: Batch


NODE_REGISTRY: dict[str, NodeRegistration] = {}


@strawberry.interface(description="Something with an id of its own, which `node` finds again.")
class Node:
    """Made from a Core row whose columns are named as the fields: `of` puts them on the instance, so a plain field is one attribute.

    A type names its prefix and how it is found by id: `class Dataset(Node, prefix="dataset", found_by=datasets.live_by_id)`.
    """

    prefix: ClassVar[str]
    uuid: strawberry.Private[UUID]
    id: strawberry.ID = strawberry.field(description="Opaque, stable and unique among everything there is: `<prefix>_<32 hex digits>`.")

    def __init_subclass__(cls, *, prefix: str, found_by: Batch, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.prefix = prefix
        NODE_REGISTRY[prefix] = NodeRegistration(cls, found_by)

    @classmethod
    def of(cls, row: Any) -> Self:
        instance = object.__new__(cls)
        attributes = instance.__dict__
        attributes.update(zip(row._fields, row, strict=True))  # as a named tuple has them; twice as fast as a Row's mapping
        key: UUID = attributes["id"]
        attributes["uuid"] = key
        attributes["id"] = f"{cls.prefix}_{key.hex}"
        return instance


def global_id(node_type: type[Node], key: UUID) -> strawberry.ID:
    """The id of a row of this type."""
    return strawberry.ID(encode(node_type.prefix, key))
