"""Values for every member of every filter, and which rows match each: derived from the rows, or given by the factories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from graphql import (
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    get_named_type,
    get_nullable_type,
)

from tests import selection
from tests.factories import Example, Row

LONG_AGO, FAR_OFF = "2000-01-01T00:00:00+00:00", "2100-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Case:
    """A value for one member of a filter, and whether a row matches it."""

    value: Any
    fits: Callable[[Row], bool]


Cases = Callable[[Sequence[Row]], list[Case]]


@dataclass(frozen=True)
class Member:
    """One member of a filter: which fields of the rows to read, and the cases derived from them."""

    name: str
    selection: str
    cases: Cases


@dataclass(frozen=True)
class FilteredList:
    """A connection with a filter: a field of `Query` or of a node type."""

    parent: GraphQLObjectType
    field: str
    node: GraphQLObjectType
    filter: GraphQLInputObjectType

    def __str__(self) -> str:
        return f"{self.parent.name}.{self.field}"


def filtered_lists(schema: GraphQLSchema) -> list[FilteredList]:
    """Return every connection with a filter."""
    assert schema.query_type is not None
    lists: list[FilteredList] = []
    for parent in (schema.query_type, *selection.node_types(schema)):
        for name, field in parent.fields.items():
            node = selection.connected_type(field)
            if node is not None and "filter" in field.args:
                filter_type = get_named_type(field.args["filter"].type)
                assert isinstance(filter_type, GraphQLInputObjectType)
                lists.append(FilteredList(parent, name, node, filter_type))
    return lists


def members(filtered: FilteredList, examples: Mapping[str, tuple[Example, ...]]) -> list[Member]:
    """Return the members of a filter for which values are known."""
    known = (_member(filtered, name, field, examples) for name, field in filtered.filter.fields.items())
    return [member for member in known if member is not None]


def complaints(schema: GraphQLSchema, examples: Mapping[str, tuple[Example, ...]]) -> list[str]:
    """Return a complaint for each filter member without known values, and for each example of an unknown member."""
    lists = filtered_lists(schema)
    missing: dict[str, str] = {}
    for filtered in lists:
        known = {member.name for member in members(filtered, examples)}
        unknown = [f"{filtered.filter.name}.{name}" for name in filtered.filter.fields if name not in known]
        for name, field in filtered.filter.fields.items():
            given = examples.get(f"{filtered.filter.name}.{name}")
            if given is not None:
                unknown += sorted(_leaves(field, f"{filtered.filter.name}.{name}") - _used(given, f"{filtered.filter.name}.{name}"))
        for place in unknown:
            missing[place] = (
                f"No value of {place} is known, so it is not tested: give `examples` of it in the factory of {filtered.node.name} in"
                f" tests/factories, or name it as the field of {filtered.node.name} that it goes by."
            )
    places = {f"{filtered.filter.name}.{name}" for filtered in lists for name in filtered.filter.fields}
    return [*missing.values(), *(f"{place} has examples and is no member of a filter." for place in examples if place not in places)]


def _leaves(field: GraphQLInputField, place: str) -> set[str]:
    """Return the paths of the scalar and enum members of a filter's member; the member itself if it has none."""
    named_type = get_named_type(field.type)
    if not isinstance(named_type, GraphQLInputObjectType):
        return {place}
    return set().union(*(_leaves(inner, f"{place}.{name}") for name, inner in named_type.fields.items()))


def _used(examples: Sequence[Example], place: str) -> set[str]:
    """Return the paths that the values of these examples set."""

    def paths(value: Any, path: str) -> Iterator[str]:
        yield path
        if isinstance(value, dict):
            for name, inner in value.items():
                yield from paths(inner, f"{path}.{name}")
        if isinstance(value, list):
            for entry in value:
                yield from paths(entry, path)

    return {path for example in examples for path in paths(example.value, place)}


def _member(filtered: FilteredList, name: str, field: GraphQLInputField, examples: Mapping[str, tuple[Example, ...]]) -> Member | None:
    given = examples.get(f"{filtered.filter.name}.{name}")
    if given is not None:
        chosen = " ".join(sorted({example.selection for example in given}))
        return Member(name, chosen, lambda _: [Case(example.value, example.fits) for example in given])
    kind, is_list = get_named_type(field.type), isinstance(get_nullable_type(field.type), GraphQLList)
    if kind.name == "ID" and not is_list and name.endswith("Id"):
        return _id_member(filtered, name)
    field_of_node = filtered.node.fields.get(name)
    if field_of_node is None or isinstance(get_nullable_type(field_of_node.type), GraphQLList):
        return None
    read = get_named_type(field_of_node.type)
    cases: Cases | None = None
    if kind.name == "StringFilter" and read.name == "String" and isinstance(kind, GraphQLInputObjectType):
        cases = _text_cases(name, set(kind.fields))
    elif kind.name == "DateTimeFilter" and read.name == "DateTime" and isinstance(kind, GraphQLInputObjectType):
        cases = _time_cases(name, set(kind.fields))
    elif kind.name == read.name and is_list and isinstance(kind, GraphQLEnumType):
        words = tuple(kind.values)
        cases = lambda rows: _word_cases(name, rows, words)  # noqa: E731 - one of four alike
    elif kind.name == read.name == "String" and is_list:
        cases = lambda rows: _word_cases(name, rows, ("default", "nothing of this name"))  # noqa: E731 - one of four alike
    elif kind.name == read.name == "Boolean" and isinstance(kind, GraphQLScalarType):
        cases = lambda _: [Case(value, lambda row, value=value: row[name] is value) for value in (True, False)]  # noqa: E731 - one of four alike
    return None if cases is None else Member(name, name, cases)


def _id_member(filtered: FilteredList, name: str) -> Member | None:
    """Return the member for an id: of an object that an edge leads to, of a profile, or in a field of the same name."""
    if name in filtered.node.fields:
        return Member(name, name, lambda rows: _id_cases(rows, lambda row: row[name]))
    edge_name = name.removesuffix("Id")
    edge = filtered.node.fields.get(edge_name)
    target = None if edge is None else get_named_type(edge.type)
    if not isinstance(target, GraphQLObjectType):
        return None
    key = "id" if "id" in target.fields else "accountId"
    return Member(name, f"{edge_name} {{ {key} }}", lambda rows: _id_cases(rows, lambda row: row[edge_name] and row[edge_name][key]))


def _text_cases(name: str, operators: set[str]) -> Cases | None:
    """Return cases for a text filter; None if the input has an operator unknown here, whose values would go untested."""
    if operators != {"eq", "contains", "startsWith", "in"}:
        return None

    def text(row: Row) -> str:
        return (row[name] or "").lower()

    def cases(rows: Sequence[Row]) -> list[Case]:
        texts = [row[name] for row in rows if row[name]] or ["something"]
        some, last = texts[0], texts[-1]
        inner, start = some[1:-1].upper(), some[:4].upper()
        return [
            Case({"eq": some.upper()}, lambda row: text(row) == some.lower()),
            Case({"eq": some[:-1]}, lambda row: text(row) == some[:-1].lower()),
            Case({"contains": inner}, lambda row: inner.lower() in text(row)),
            Case({"contains": "%"}, lambda row: "%" in text(row)),
            Case({"startsWith": start}, lambda row: text(row).startswith(start.lower())),
            Case({"startsWith": some[1:]}, lambda row: text(row).startswith(some[1:].lower())),
            Case({"in": [some, last.upper(), "nothing"]}, lambda row: text(row) in {some.lower(), last.lower(), "nothing"}),
            Case({"in": []}, lambda _: False),
            Case({"startsWith": start, "contains": last}, lambda row: text(row).startswith(start.lower()) and last.lower() in text(row)),
        ]

    return cases


def _time_cases(name: str, operators: set[str]) -> Cases | None:
    """Return cases for a time filter; None as for texts."""
    if operators != {"gte", "lt"}:
        return None

    def cases(rows: Sequence[Row]) -> list[Case]:
        times = sorted(datetime.fromisoformat(row[name]) for row in rows if row[name])
        bounds = {LONG_AGO, FAR_OFF}
        for time in (times[0], times[-1]) if times else ():
            bounds |= {time.isoformat(), (time + timedelta(microseconds=1)).isoformat()}

        def case(operator: str, bound: str) -> Case:
            def fits(row: Row) -> bool:
                if not row[name]:
                    return False
                is_before = datetime.fromisoformat(row[name]) < datetime.fromisoformat(bound)
                return is_before if operator == "lt" else not is_before

            return Case({operator: bound}, fits)

        single = [case(operator, bound) for operator in ("gte", "lt") for bound in sorted(bounds)]
        return [*single, Case({"gte": LONG_AGO, "lt": FAR_OFF}, lambda row: bool(row[name]))]

    return cases


def _word_cases(name: str, rows: Sequence[Row], words: Sequence[str]) -> list[Case]:
    """Test each word alone, all words of the rows, and none."""
    present = {row[name] for row in rows if row[name] is not None}
    choices = [[word] for word in sorted({*words, *present})] + [sorted(present), sorted({*words} - present), []]
    return [Case(choice, lambda row, choice=frozenset(choice): row[name] in choice) for choice in choices]


def _id_cases(rows: Sequence[Row], id_of: Callable[[Row], str | None]) -> list[Case]:
    """Test the ids of the rows, an unused one, and one of another type."""
    present = sorted({id_ for row in rows if (id_ := id_of(row))})
    prefix = present[0].partition("_")[0] if present else "job"
    digits = present[0].partition("_")[2] if present else uuid4().hex
    tried = [*present[:3], f"{prefix}_{uuid4().hex}", f"other_{digits}"]
    return [Case(value, lambda row, value=value: id_of(row) == value) for value in tried]
