"""The selected fields of a plan, and what a plan and its runs need of the operation."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

from graphql import (
    FieldNode,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    ListValueNode,
    ObjectValueNode,
    Undefined,
    ValueNode,
    VariableNode,
    get_named_type,
    is_abstract_type,
    is_leaf_type,
)
from graphql.execution.values import get_argument_values
from graphql.pyutils import Path
from strawberry.schema.schema_converter import get_arguments
from strawberry.types.field import StrawberryField

from db.core.prepared import RecordColumn
from db.core.row_text import RowText
from graph.core.errors import Unauthenticated
from graph.execution.planning.failures import Failure, FieldShape, Shape, merge_shapes

if TYPE_CHECKING:
    from db.core.viewer import Viewer
    from graph.execution.context import OperationContext
    from graph.execution.planning.trace import ExecutionTrace


class Run:
    """One execution of a plan. `executor` is graphql-core's, with the variables; `has_failed` is set by the first failure."""

    __slots__ = ("_rows", "context", "executor", "has_failed", "trace")

    def __init__(self, executor: Any, trace: ExecutionTrace | None = None) -> None:
        self.trace = trace
        self.executor = executor
        self.context: OperationContext = executor.context_value
        self.has_failed = False
        self._rows: dict[Hashable, dict[Any, Any]] = {}

    @property
    def viewer(self) -> Viewer:
        """The viewer. Raises `Unauthenticated`, as the loaders do."""
        if self.context.viewer is None:
            raise Unauthenticated
        return self.context.viewer

    def rows_of(self, batch: Hashable) -> dict[Any, Any]:
        """The rows that a batch has returned by their keys; None for a key without one."""
        return self._rows.setdefault(batch, {})

    def forget_rows(self) -> None:
        """Read again what a mutation may have changed."""
        self._rows.clear()

    def fail(self, error: Exception, field: Field) -> Failure:
        self.has_failed = True
        return Failure(error, field.nodes)

    def null(self, field: Field) -> Failure:
        """The failure of a non-null position that is null."""
        return self.fail(TypeError(f"Cannot return null for non-nullable field {field.parent_type}.{field.field_name}."), field)


class Template(Protocol):
    """The text of the objects of a selection, which PostgreSQL writes; see `graph.execution.planning.row_texts`."""

    @property
    def edges(self) -> Sequence[Any]:
        """The steps that are written with it."""
        ...

    @property
    def has_fixed_text(self) -> bool:
        """Whether it is the same in every run."""
        ...

    def text(self, run: Run) -> tuple[RowText, Mapping[str, Any]] | None:
        """The text with the values of its parameters; None if it has none with the arguments of this run."""
        ...

    def nested_text(self, run: Run, arguments: dict[str, Any]) -> RowText | None:
        """The same as a part of another text, with its parameters added to `arguments`."""
        ...


class Selection(Protocol):
    """The selection on one object type."""

    @property
    def shape(self) -> Shape: ...

    def leaf_attributes(self) -> set[str]:
        """The attributes that the leaf fields have their values from."""
        ...

    def columns(self, node_type: Any, columns: Mapping[str, RecordColumn]) -> set[str] | None:
        """The columns that the selection needs of records; None if it needs instances, or what is not a column."""
        ...

    def text_template(self, node_type: Any, columns: Mapping[str, RecordColumn]) -> Template | None:
        """The text of an object, if PostgreSQL can write it with all that is below it."""
        ...

    async def complete_instances(self, run: Run, instances: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the objects of instances of the type."""
        ...

    async def complete_records(
        self, run: Run, records: Sequence[Any], names: tuple[str, ...], columns: Mapping[str, RecordColumn], node_type: Any
    ) -> list[dict[str, Any]]:
        """Return the objects of records with the columns `names`."""
        ...


class Selections(Protocol):
    """Makes the selections of an operation."""

    schema: GraphQLSchema

    def selection_below(self, field: Field, type_: GraphQLObjectType) -> Selection: ...


class Field:
    """A field of a selection: all nodes with one response name on one object type."""

    def __init__(
        self, selections: Selections, parent_type: GraphQLObjectType, name: str, details: Sequence[Any], definition: GraphQLField
    ) -> None:
        self._source = selections
        self.parent_type = parent_type
        self.name = name
        self.details = list(details)
        self.nodes: list[FieldNode] = [detail.node for detail in details]
        self.field_name = self.nodes[0].name.value
        self.definition = definition
        type_: Any = cast("Any", definition).type
        self.type = type_
        self.is_non_null = isinstance(type_, GraphQLNonNull)
        self.named_type: Any = cast("Any", get_named_type)(type_)
        self.is_leaf = is_leaf_type(self.named_type)
        self.is_single = type_ is self.named_type or (self.is_non_null and type_.of_type is self.named_type)  # no list
        self.strawberry_field: Any = definition.extensions.get("strawberry-definition")
        self.getter = _getter(self.strawberry_field)
        self.has_fixed_arguments = not any(_has_variable(argument.value) for argument in self.nodes[0].arguments or ())
        self._fixed_arguments: dict[str, Any] | None = None
        self._selections: dict[GraphQLObjectType, Selection] = {}

    def selection(self, type_: GraphQLObjectType) -> Selection:
        """The selection below the field on an object type."""
        selection = self._selections.get(type_)
        if selection is None:
            selection = self._selections[type_] = self._source.selection_below(self, type_)
        return selection

    @cached_property
    def shape(self) -> Shape | None:
        """The shape of the objects in its value."""
        if self.is_leaf:
            return None
        types = self._source.schema.get_possible_types(self.named_type) if is_abstract_type(self.named_type) else [self.named_type]
        fields: dict[str, FieldShape] = {}
        for type_ in types:
            merge_shapes(fields, self.selection(type_).shape)
        return Shape(fields)

    def null_or_failure(self, run: Run) -> Failure | None:
        """What a missing value becomes."""
        return run.null(self) if self.is_non_null else None

    def core_arguments(self, run: Run) -> dict[str, Any]:
        """The arguments as graphql-core passes them to a resolver. Raises a GraphQLError for a value that is not valid."""
        if self._fixed_arguments is not None:
            return self._fixed_arguments
        node, executor = self.nodes[0], run.executor
        if not self.definition.args and not node.arguments:
            return {}
        arguments = get_argument_values(self.definition, node, executor.variable_values, None, executor.hide_suggestions)
        if self.has_fixed_arguments:
            self._fixed_arguments = arguments
        return arguments

    def python_arguments(self, run: Run) -> dict[str, Any]:
        """The arguments as Strawberry passes them to `get_result`."""
        schema = run.executor.schema._strawberry_schema  # noqa: SLF001 - where Strawberry's own Info finds it
        info = schema.config.info_class(_raw_info=self.info(run), _field=self.strawberry_field)
        _, arguments = get_arguments(
            field=self.strawberry_field,
            source=None,
            info=info,
            kwargs=self.core_arguments(run),
            config=schema.config,
            scalar_registry=schema.schema_converter.scalar_registry,
        )
        return arguments

    def info(self, run: Run) -> Any:
        """The GraphQLResolveInfo for resolvers; its path has no positions of lists, since a field is resolved once for all of them."""
        return run.executor.build_resolve_info(self.definition, self.nodes, self.parent_type, Path(None, self.name, self.parent_type.name))


def is_missing(value: object) -> bool:
    """Whether a value is null or a failure: there is nothing below it."""
    return value is None or value is Undefined or isinstance(value, Failure)


def _getter(field: Any) -> Callable[[Any], Any] | None:
    """The resolver of a field that depends on its object alone: without arguments, context or extensions, and not async."""
    if type(field) is not StrawberryField or field.extensions or field.permission_classes or field.arguments:
        return None
    resolver: Any = cast("Any", field).base_resolver
    if resolver is None or resolver.is_async or resolver.info_parameter is not None or resolver.self_parameter is None:
        return None
    return resolver


def _has_variable(value: ValueNode) -> bool:
    if isinstance(value, VariableNode):
        return True
    if isinstance(value, ListValueNode):
        return any(_has_variable(item) for item in value.values)
    return isinstance(value, ObjectValueNode) and any(_has_variable(field.value) for field in value.fields)
