"""From the selections of an operation to steps. Types are never known by name: only how their fields are declared counts."""

from collections.abc import Mapping, Sequence

from graphql import GraphQLObjectType, GraphQLSchema, OperationDefinitionNode, is_object_type
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_fields, collect_subfields
from graphql.execution.values import VariableValues
from strawberry.types.field import StrawberryField

from graph.core.edges import EdgeField, Lookup, Many, One, Paged
from graph.core.paging import Connection, Edge
from graph.execution.planning.edges import LookupStep, ManyStep, OneStep
from graph.execution.planning.fields import Field
from graph.execution.planning.pages import Entries, PagedStep, is_generic
from graph.execution.planning.selections import ObjectSelection, Step
from graph.execution.planning.steps import AttributeStep, ResolverStep


class Unplannable(Exception):
    """The operation has to be executed by graphql-core. `reason` is a label of a metric."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PlanBuilder:
    """Builds the selections of one operation. `conditions` are the variables of `@skip` and `@include`, and no others."""

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDetails],
        conditions: VariableValues,
    ) -> None:
        self.schema = schema
        self._operation = operation
        self._fragments = dict(fragments)
        self._conditions = conditions

    def root(self, type_: GraphQLObjectType) -> ObjectSelection:
        """The selection of the operation. Raises `Unplannable`."""
        collected = collect_fields(self.schema, self._fragments, self._conditions, type_, self._operation)
        return self._selection(type_, collected.grouped_field_set)

    def selection_below(self, field: Field, type_: GraphQLObjectType) -> ObjectSelection:
        return self._selection(type_, self._grouped_below(field, type_))

    def _grouped_below(self, field: Field, type_: GraphQLObjectType) -> Mapping[str, Sequence[FieldDetails]]:
        return collect_subfields(self.schema, self._fragments, self._conditions, self._operation, type_, field.details).grouped_field_set

    def _selection(self, type_: GraphQLObjectType, grouped: Mapping[str, Sequence[FieldDetails]]) -> ObjectSelection:
        entries: dict[str, Field | str | Step] = {}
        for name, entry in self._entries(type_, grouped).items():
            entries[name] = entry if isinstance(entry, str) else self._field_entry(entry)
        return ObjectSelection(type_, entries)

    def _entries(self, type_: GraphQLObjectType, grouped: Mapping[str, Sequence[FieldDetails]]) -> Entries:
        """The selected fields by response name; for `__typename` the name of the type."""
        entries: dict[str, Field | str] = {}
        for name, details in grouped.items():
            field_name = details[0].node.name.value
            if field_name == "__typename":
                entries[name] = type_.name
                continue
            if field_name.startswith("__"):
                raise Unplannable("introspection")
            definition = self.schema.get_field(type_, field_name)
            if definition is not None:
                entries[name] = Field(self, type_, name, details, definition)
        return entries

    def _field_entry(self, field: Field) -> Field | Step:
        strawberry_field = field.strawberry_field
        if isinstance(strawberry_field, EdgeField) and not _is_extended(strawberry_field):
            return self._edge_step(field, strawberry_field)
        if type(strawberry_field) is StrawberryField and strawberry_field.is_basic_field and not _is_extended(strawberry_field):
            return field if field.is_leaf and field.is_single else AttributeStep(field)
        if field.getter is not None and field.is_leaf and field.is_single:
            return field
        return ResolverStep(field)

    def _edge_step(self, field: Field, edge: EdgeField) -> Step:
        declaration = edge.declaration
        if type(declaration) is Paged and is_generic(field.named_type, Connection):
            entries = self._entries(field.named_type, self._grouped_below(field, field.named_type))
            edges = [
                (entry, self._entries(entry.named_type, self._grouped_below(entry, entry.named_type)))
                for entry in entries.values()
                if isinstance(entry, Field) and is_generic(entry.named_type, Edge)
            ]
            return PagedStep(field, edge, declaration, entries, edges)
        if type(declaration) is One:
            return OneStep(field, edge, declaration)
        if type(declaration) is Many:
            return ManyStep(field, edge, declaration)
        if type(declaration) is Lookup and is_object_type(field.named_type):
            return LookupStep(field, edge, declaration)
        return ResolverStep(field)


def _is_extended(field: StrawberryField) -> bool:
    return bool(field.extensions or field.permission_classes)
