"""Random operations over the whole schema: edges, filters, orders, cursors, fragments, aliases, directives, variables, and invalid values."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from tests.factories import arguments

MAX_DEPTH = 5
MAX_FIELDS = 90  # of one operation
MAX_ALIASES = 40


@dataclass
class Pool:
    """Values that occur in the rows: ids of all prefixes, cursors, and texts."""

    ids: list[str]
    cursors: list[str] = field(default_factory=list[str])
    texts: list[str] = field(default_factory=lambda: ["data", "a", "%", "v_", "production", "accuracy", ""])


@dataclass(frozen=True)
class Operation:
    """A document with its variables."""

    text: str
    variables: dict[str, Any]


class OperationGenerator:
    """Makes one operation. `operation` may be called once."""

    def __init__(self, schema: GraphQLSchema, pool: Pool, random: Random) -> None:
        self._schema = schema
        self._pool = pool
        self._random = random
        self._variables: dict[str, tuple[str, Any]] = {}
        self._fragments: list[str] = []
        self._aliases = 0
        self._fields = 0

    def operation(self) -> Operation:
        root = self._schema.query_type
        assert root is not None
        selections = " ".join(
            self._field(root, self._random.choice(self._roots(root)), 0) for _ in range(self._random.choice((1, 1, 1, 2, 3)))
        )
        if self._chance(0.05):
            selections += " __typename"
        if self._chance(0.05):
            selections += " ... on Query { viewer { id } }"
        declared = ", ".join(f"${name}: {type_}" for name, (type_, _) in self._variables.items())
        header = f"query Q({declared})" if declared else self._random.choice(("query Q", "query", ""))
        values = {name: value for name, (_, value) in self._variables.items() if value is not None or self._chance(0.5)}
        return Operation("\n".join((f"{header} {{ {selections} }}", *self._fragments)), values)

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _roots(self, root: GraphQLObjectType) -> list[str]:
        return [name for name in root.fields if name != "rateLimit"] + ["nodes", "node", "viewer", "datasets", "jobs", "runs", "models"]

    # Selections

    def _selection_set(self, type_: Any, depth: int) -> str:
        parts = [self._typename()] if isinstance(type_, GraphQLUnionType) or self._chance(0.15) else []
        if isinstance(type_, GraphQLUnionType | GraphQLInterfaceType):
            parts += self._abstract_parts(type_, depth)
        if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            names = list(type_.fields)
            chosen = self._random.sample(names, min(len(names), self._random.choice((1, 2, 3, 4, 6))))
            if {"edges", "pageInfo"} <= type_.fields.keys() and self._chance(0.85):
                chosen = ["edges", *(name for name in chosen if name != "edges" and self._chance(0.4))]
            if "node" in names and "cursor" in names:
                chosen = self._random.choice((["node"], ["node"], ["cursor", "node"], ["node", "cursor"], ["cursor"]))
            elif self._chance(0.3):
                chosen = self._leaves(type_) or chosen
            parts += [self._wrapped(type_, self._field(type_, name, depth)) for name in chosen if self._can_select(type_, name, depth)]
            if chosen and self._chance(0.1):
                parts.append(self._field(type_, self._random.choice(chosen), depth))  # selected again: the selections are merged
        parts = [part for part in parts if part]
        self._random.shuffle(parts)
        return "{ " + (" ".join(parts) or "__typename") + " }"

    def _leaves(self, type_: Any) -> list[str]:
        """Fields that have values of their own: of a page with nothing else, PostgreSQL writes the rows."""
        names = [name for name, field in type_.fields.items() if is_leaf_type(get_named_type(field.type)) and not field.args]
        return self._random.sample(names, min(len(names), self._random.choice((1, 2, 4))))

    def _typename(self) -> str:
        return f"{self._alias()}__typename" if self._chance(0.2) else "__typename"

    def _can_select(self, type_: Any, name: str, depth: int) -> bool:
        return is_leaf_type(get_named_type(type_.fields[name].type)) or (depth < MAX_DEPTH and self._fields < MAX_FIELDS)

    def _abstract_parts(self, type_: Any, depth: int) -> list[str]:
        members = list(self._schema.get_possible_types(type_))
        parts = [self._alias_all(member, depth) for member in self._random.sample(members, min(len(members), 4))]
        if self._chance(0.3) and type_.name != "Node" and any(interface.name == "Node" for interface in members[0].interfaces):
            parts.append("... on Node { id }")
        return parts

    def _alias_all(self, member: GraphQLObjectType, depth: int) -> str:
        """A fragment whose fields have aliases of their own, or fields of two members could be in conflict."""
        names = self._random.sample(list(member.fields), min(3, len(member.fields)))
        texts = [self._field(member, name, depth, aliased=True) for name in names if self._can_select(member, name, depth)]
        return f"... on {member.name} {{ {' '.join(texts) or '__typename'} }}"

    def _wrapped(self, type_: Any, text: str) -> str:
        """The selection, or the same in an inline fragment, a named one, or behind a condition."""
        chance = self._random.random()
        if chance < 0.05:
            return f"... on {type_.name}{self._condition()} {{ {text} }}"
        if chance < 0.08:
            return f"...{self._condition()} {{ {text} }}"
        if chance < 0.13 and len(self._fragments) < 10:
            name = f"F{len(self._fragments)}"
            self._fragments.append(f"fragment {name} on {type_.name} {{ {text} }}")
            return f"...{name}{self._condition()}"
        return text

    def _condition(self) -> str:
        if not self._chance(0.3):
            return ""
        value = self._variable("Boolean!", self._chance(0.5)) if self._chance(0.5) else self._random.choice(("true", "false"))
        return f" @{self._random.choice(('skip', 'include'))}(if: {value})"

    def _alias(self) -> str:
        self._aliases += 1
        return f"a{self._aliases}: "

    def _field(self, type_: Any, name: str, depth: int, *, aliased: bool = False) -> str:
        self._fields += 1
        definition = type_.fields[name]
        texts = [
            text for key, argument in definition.args.items() if (text := self._argument(f"{type_.name}.{name}({key})", key, argument))
        ]
        called = f"({', '.join(texts)})" if texts else ""
        needs_alias = aliased or bool(texts) or (bool(definition.args) and self._chance(0.5))
        alias = self._alias() if (needs_alias or self._chance(0.1)) and self._aliases < MAX_ALIASES else ""
        if not alias and (texts or aliased):
            return ""
        named_type = get_named_type(definition.type)
        below = "" if is_leaf_type(named_type) else f" {self._selection_set(named_type, depth + 1)}"
        return f"{alias}{name}{called}{self._condition() if self._chance(0.2) else ''}{below}"

    # Values

    def _argument(self, place: str, name: str, argument: Any) -> str:
        given = arguments().get(place)
        if given is not None and self._chance(0.7):
            return f"{name}: {given}"
        if not is_required_argument(argument) and not self._chance(0.55 if name == "first" else 0.12):
            return ""
        value = self._value(name, argument.type)
        if self._chance(0.35):
            return f"{name}: {self._variable(str(argument.type), value)}"
        return f"{name}: {_literal(argument.type, value)}"

    def _variable(self, type_: str, value: Any) -> str:
        name = f"v{len(self._variables)}"
        self._variables[name] = type_, value
        return f"${name}"

    def _value(self, name: str, type_: Any, depth: int = 0) -> Any:
        if isinstance(type_, GraphQLNonNull):
            value = self._value(name, type_.of_type, depth)
            return self._scalar(name, get_named_type(type_).name) if value is None and is_leaf_type(type_.of_type) else value
        if isinstance(type_, GraphQLList):
            return [self._value(name, type_.of_type, depth) for _ in range(self._random.choice((0, 1, 2, 5)))]
        if isinstance(type_, GraphQLInputObjectType):
            return self._input(type_, depth)
        if isinstance(type_, GraphQLEnumType):
            return self._random.choice(list(type_.values))
        if self._chance(0.03):
            return None
        return self._scalar(name, type_.name)

    def _input(self, type_: GraphQLInputObjectType, depth: int) -> dict[str, Any]:
        if type_.is_one_of:
            name = self._random.choice(list(type_.fields))
            return {name: self._value(name, GraphQLNonNull(type_.fields[name].type), depth + 1)}
        required = [name for name, value in type_.fields.items() if isinstance(value.type, GraphQLNonNull)]
        optional = [name for name in type_.fields if name not in required]
        chosen = [*required, *self._random.sample(optional, min(len(optional), self._random.choice((0, 1, 1, 2))))]
        return {name: self._value(name, type_.fields[name].type, depth + 1) for name in chosen}

    def _scalar(self, name: str, type_name: str) -> Any:
        random = self._random
        if name in {"after", "before"} and self._pool.cursors and self._chance(0.8):
            return random.choice(self._pool.cursors)
        if name in {"metric", "key"} and self._chance(0.8):
            return "accuracy"
        match type_name:
            case "ID":
                return random.choice(self._pool.ids) if self._chance(0.93) else random.choice(("", "dataset_1", "nonsense"))
            case "Int":
                return random.choice((0, 1, 2, 3, 5, 10)) if self._chance(0.94) else random.choice((-1, 101, 100_000))
            case "BigInt":
                return random.choice((0, 1, 7, 2**40))
            case "Float" | "Duration":
                return random.choice((0.0, 0.5, 3.25))
            case "Boolean":
                return random.choice((True, False))
            case "DateTime":
                return random.choice(("2020-01-01T00:00:00Z", "2100-01-01T00:00:00+02:00"))
            case "JSON":
                return random.choice((1, "x", None, [1, 2], {"a": 1}))
            case _:
                return random.choice(self._pool.texts)


def _literal(type_: Any, value: Any) -> str:
    """The value as a literal of the language."""
    if value is None:
        return "null"
    if isinstance(type_, GraphQLNonNull):
        return _literal(type_.of_type, value)
    if isinstance(type_, GraphQLList):
        return f"[{', '.join(_literal(type_.of_type, item) for item in value)}]"
    if isinstance(type_, GraphQLInputObjectType):
        return "{" + ", ".join(f"{name}: {_literal(type_.fields[name].type, item)}" for name, item in value.items()) + "}"
    return str(value) if isinstance(type_, GraphQLEnumType) else _json_literal(value)


def _json_literal(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, list):
        return f"[{', '.join(map(_json_literal, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_json_literal(item)}" for name, item in value.items()) + "}"
    return "null" if value is None else str(value)
