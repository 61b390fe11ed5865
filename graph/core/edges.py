"""Declarations of edges:

    owner: User = one(users.by_id, key="owner_id", description="...")
    versions: Connection[DatasetVersion] = connection(versions.of_dataset, description="...")

or, on a type of another domain, from the domain of the target:

    extend(User, "datasets", Connection[Dataset], connection(datasets.of_owner, description="..."))

A declaration names the batch that reads the edge, the attribute of the parent that is its key, and its arguments. A plan runs it once for
all parents of a level, see `graph.execution.planning`; the loaders run it where one object is resolved by itself.
"""

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self
from uuid import UUID

import strawberry
from strawberry.annotation import StrawberryAnnotation
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import StrawberryContainer, get_object_definition
from strawberry.types.field import StrawberryField
from strawberry.types.lazy_type import LazyType

from db.core.criteria import Criteria, Equals
from db.core.listing import Listing
from db.core.page import Slice
from graph.core.context import Context, Info
from graph.core.filters import Filter, OrderInput
from graph.core.ids import lookup_key
from graph.core.loading import Batch, Make
from graph.core.paging import Connection, PrunableConnection, parse_slice
from graph.core.permissions import Metadata, Scope, require_scope


@dataclass(frozen=True, slots=True)
class One:
    """A to-one edge: the batch's row for the parent's `key`."""

    batch: Batch
    key: str

    def load(self, parent: Any, context: Context, make: Make, arguments: dict[str, Any]) -> Awaitable[Any] | None:  # noqa: ARG002 - one signature for all
        key = getattr(parent, self.key)
        return None if key is None else context.loaders.one(self.batch, make).load(key)


@dataclass(frozen=True, slots=True)
class Many:
    """An unpaged to-many edge: all of the batch's rows for the parent's `key`."""

    batch: Batch
    key: str

    def load(self, parent: Any, context: Context, make: Make, arguments: dict[str, Any]) -> Awaitable[Any]:  # noqa: ARG002 - one signature for all
        return context.loaders.many(self.batch, make).load(getattr(parent, self.key))


@dataclass(frozen=True, slots=True)
class PageRequest:
    """The arguments of a page as plain values."""

    page_slice: Slice
    criteria: Criteria | None
    order: Any


@dataclass(frozen=True, slots=True)
class Paged:
    """A page of a listing: of the rows under the parent's `key`, or of all rows if `key` is None."""

    listing: Listing
    key: str | None
    narrowed_by: tuple[str, ...] = ()
    """Arguments beside the filter; each is the value of the condition of its name."""
    pruned: Batch | None = None
    """Of a `PrunableConnection`: a batch with the keys of the parents under which entries were let go."""

    def request(self, arguments: dict[str, Any]) -> PageRequest:
        """Return the page that the arguments ask for. Raises `BadUserInput`."""
        filter_input: Filter | None = arguments.get("filter")
        order_input: OrderInput | None = arguments.get("order_by")
        criteria = None if filter_input is None else filter_input.to_criteria()
        narrowing = {name: Equals(arguments[name]) for name in self.narrowed_by if arguments.get(name) is not None}
        if narrowing:
            criteria = Criteria((*(() if criteria is None else criteria.fields), *narrowing.items()))
        return PageRequest(parse_slice(arguments), criteria, None if order_input is None else order_input.to_order())

    def load(self, parent: Any, context: Context, make: Make, arguments: dict[str, Any]) -> Connection[Any]:
        request = self.request(arguments)
        pages = context.loaders.pages(self.listing, request.page_slice, request.criteria, request.order)
        counts = context.loaders.counts(self.listing, request.criteria)
        key = None if self.key is None else getattr(parent, self.key)
        if self.pruned is None:
            return Connection(pages=pages, counts=counts, parent=key, make=make)
        return PrunableConnection(pages=pages, counts=counts, parent=key, make=make, pruned=context.loaders.one(self.pruned, bool))


@dataclass(frozen=True, slots=True)
class Lookup:
    """The row that the argument `id` names, if it is not deleted and the viewer may see it."""

    batch: Batch
    prefix: str

    def wanted_key(self, arguments: dict[str, Any]) -> UUID | None:
        """Return the key in the argument; None for an id of another type."""
        return lookup_key(self.prefix, arguments["id"])

    def load(self, parent: Any, context: Context, make: Make, arguments: dict[str, Any]) -> Awaitable[Any] | None:  # noqa: ARG002 - one signature for all
        key = self.wanted_key(arguments)
        return None if key is None else context.loaders.one(self.batch, make).load(key)


Declaration = One | Many | Paged | Lookup


class EdgeField(StrawberryField):
    """A field that runs its declaration. Only root fields have a `scope`; others name theirs in the metadata, if it is not that of their type."""

    declaration: Declaration
    scope: Scope | None = None

    def __copy__(self) -> Self:
        copied = super().__copy__()
        copied.declaration, copied.scope = self.declaration, self.scope
        return copied

    @property
    def is_basic_field(self) -> bool:
        return False

    @cached_property
    def node_type(self) -> Any:
        """The type at the end of the edge. Resolved late, because types refer to each other."""
        return _node_type(self.type)

    @cached_property
    def make(self) -> Make:
        """The constructor of the edge's type from a row."""
        return self.node_type.of

    def get_result(self, source: Any, info: Info | None, args: list[Any], kwargs: dict[str, Any]) -> Any:  # noqa: ARG002 - the signature is Strawberry's
        assert info is not None
        if self.scope is not None:
            require_scope(self.scope, info.context, info.field_name)
        return self.declaration.load(source, info.context, self.make, kwargs)


def _node_type(type_: Any) -> Any:
    """Unwrap a type: `[Column!]!` to Column, `DatasetConnection!` to Dataset."""
    while True:
        if isinstance(type_, LazyType):
            type_ = type_.resolve_type()
        elif isinstance(type_, StrawberryContainer):
            type_ = type_.of_type
        else:
            definition = get_object_definition(type_)
            if definition is None or "T" not in definition.type_var_map:
                return type_
            type_ = definition.type_var_map["T"]


def _argument(name: str, annotation: Any, description: str) -> StrawberryArgument:
    return StrawberryArgument(name, None, StrawberryAnnotation(annotation), description=description)


def _field(
    declaration: Declaration,
    description: str,
    arguments: Sequence[StrawberryArgument] = (),
    scope: Scope | None = None,
    metadata: Metadata = None,
) -> Any:
    field = EdgeField(description=description, metadata=metadata)
    field.init = field.repr = field.compare = False  # instances are made from rows, which do not contain the edge
    field.declaration = declaration
    field.scope = scope
    field.arguments = list(arguments)
    return field


def one(batch: Batch, *, key: str = "uuid", description: str, metadata: Metadata = None) -> Any:
    """A to-one edge: the row of `batch` for the parent's attribute `key`; null if the key is null or the batch omits it."""
    return _field(One(batch, key), description, metadata=metadata)


def many(batch: Batch, *, key: str = "uuid", description: str, metadata: Metadata = None) -> Any:
    """A to-many edge without paging: all rows of `batch` for the parent's attribute `key`. Use it for lists that are always short."""
    return _field(Many(batch, key), description, metadata=metadata)


def connection(
    listing: Listing,
    *,
    key: str = "uuid",
    filtered_by: type[Filter] | None = None,
    ordered_by: type[OrderInput] | None = None,
    narrowed_by: Mapping[str, str] | None = None,
    pruned: Batch | None = None,
    description: str,
    metadata: Metadata = None,
) -> Any:
    """A page of the listing under the parent's attribute `key`. `filtered_by` and `ordered_by` are the types of its input arguments; `narrowed_by`
    has texts among its arguments, as in `Paged`, and their descriptions. `pruned` is that of a `PrunableConnection`."""
    arguments = _page_arguments(listing, filtered_by, ordered_by)
    if narrowed_by is not None:
        listing.require_filters(narrowed_by)
        arguments += [_argument(name, str | None, text) for name, text in narrowed_by.items()]
    return _field(Paged(listing, key, tuple(narrowed_by or ()), pruned), description, arguments, metadata=metadata)


def listing(
    root_listing: Listing,
    *,
    filtered_by: type[Filter] | None = None,
    ordered_by: type[OrderInput] | None = None,
    description: str,
    scope: Scope = Scope.READ,
) -> Any:
    """A root field: a page of the listing without a parent."""
    return _field(Paged(root_listing, None), description, _page_arguments(root_listing, filtered_by, ordered_by), scope)


def lookup(batch: Batch, *, prefix: str, description: str, scope: Scope = Scope.READ) -> Any:
    """A root field: the row that its argument `id` names. `batch` omits deleted rows."""
    id_ = _argument(
        "id", strawberry.ID, f"The id, `{prefix}_…`. The result is null for an id of another type and for something that you may not see."
    )
    return _field(Lookup(batch, prefix), description, [id_], scope)


def extend(type_: type[Any], name: str, edge_type: Any, edge: Any) -> None:
    """Add an edge to a type of another domain, from the domain of the edge's target:

        extend(User, "datasets", Connection[Dataset], connection(datasets.of_owner, description="..."))

    So the extended type does not import the domains that refer to it. Call it on import, before the schema is built. Raises `TypeError` if
    the type has a field of this name.
    """
    definition = get_object_definition(type_, strict=True)
    if definition.get_field(name) is not None:
        raise TypeError(f"{definition.name} already has a field {name!r}.")
    edge.python_name, edge.origin, edge.type_annotation = name, type_, StrawberryAnnotation(edge_type)
    definition.fields.append(edge)


def _page_arguments(listing: Listing, filtered_by: type[Filter] | None, ordered_by: type[OrderInput] | None) -> list[StrawberryArgument]:
    """Return the arguments of a page. Raises `TypeError` if an input names a field that the listing does not know."""
    arguments = [
        _argument(
            "first",
            int | None,
            "How many entries to return from the start, or after `after`: 0 to 100; 20 if neither `first` nor `last` is given.",
        ),
        _argument("after", str | None, "Return entries after this cursor."),
        _argument(
            "last", int | None, "How many entries to return from the end, or before `before`: 0 to 100. Cannot be combined with `first`."
        ),
        _argument("before", str | None, "Return entries before this cursor."),
    ]
    if filtered_by is not None:
        listing.require_filters(filtered_by.field_names())
        arguments.append(_argument("filter", filtered_by | None, "Return only entries that meet all of these conditions."))
    if ordered_by is not None:
        listing.require_orders(ordered_by.columns)
        arguments.append(_argument("order_by", ordered_by | None, "The order of the list; newest first by default."))
    return arguments
