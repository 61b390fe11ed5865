"""The filter and the order of a list as JSON documents, read by the list's own input types, as those of a request are."""

from dataclasses import dataclass
from typing import Any

import strawberry
from graphql import GraphQLError
from graphql.utilities import (
    coerce_input_value,  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open
    validate_input_value,  # pyright: ignore[reportUnknownVariableType] - the same
)
from strawberry.types.arguments import convert_argument

from db.core.criteria import Criteria
from db.errors import Issue
from graph.core.edges import EdgeField
from graph.core.errors import BadUserInput
from graph.core.list_lengths import overlong_lists


@dataclass(frozen=True, slots=True)
class ListField:
    """A field that is a list: of the type `Query`, or of what it is under."""

    type: str
    name: str

    def declared(self, schema: strawberry.Schema) -> EdgeField:
        """The field as it was declared."""
        return self._in(schema).extensions["strawberry-definition"]

    def _in(self, schema: strawberry.Schema) -> Any:
        core: Any = schema._schema  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - Strawberry has no public accessor
        return core.type_map[self.type].fields[self.name]

    def criteria(self, schema: strawberry.Schema, document: Any, issues: list[Issue]) -> Criteria | None:
        """What the list takes as its `filter`. Appends what it does not take to the issues; nothing is wrong with None."""
        given = self._read(schema, "filter", document, issues)
        return None if given is None else _converted("filter", given.to_criteria, issues)

    def order(self, schema: strawberry.Schema, document: Any, issues: list[Issue]) -> Any:
        """The same of `orderBy`."""
        given = self._read(schema, "orderBy", document, issues)
        return None if given is None else _converted("orderBy", given.to_order, issues)

    def _read(self, schema: strawberry.Schema, argument: str, value: Any, issues: list[Issue]) -> Any:
        if value is None:
            return None
        field = self._in(schema)
        if argument not in field.args:
            issues.append(Issue((argument,), f"The list {self.type}.{self.name} has no `{argument}`. Leave it out."))
            return None
        input_type: Any = field.args[argument].type
        too_long = [
            Issue((argument, *path.split(".")[1:]), f"This has {length:,} entries; at most {limit:,} are allowed.")
            for path, length, limit in overlong_lists(input_type, value, argument)
        ]
        if too_long:
            issues += too_long
            return None
        errors: list[tuple[GraphQLError, list[str | int]]] = []
        validate_input_value(value, input_type, lambda error, path: errors.append((error, path)))
        if errors:
            issues += [Issue((argument, *map(str, path)), error.message) for error, path in errors]
            return None
        definition: Any = field.extensions["strawberry-definition"]
        (declared,) = (each for each in definition.arguments if schema.config.name_converter.from_argument(each) == argument)
        try:
            coerced = coerce_input_value(value, input_type)
            return convert_argument(coerced, declared.type, schema.schema_converter.scalar_registry, schema.config)
        except GraphQLError as error:  # an input with exactly one key has another number of them
            issues.append(Issue((argument,), error.message))
            return None


def _converted(argument: str, convert: Any, issues: list[Issue]) -> Any:
    try:
        return convert()
    except BadUserInput as error:  # limits that the types do not tell
        issues.append(Issue((argument,), str(error)))
        return None
