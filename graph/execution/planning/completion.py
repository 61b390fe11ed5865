"""Completion of the values of a field for a whole level (GraphQL specification, 6.4.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from inspect import isawaitable
from typing import Any, cast

from graphql import GraphQLError, GraphQLList, GraphQLNonNull, GraphQLObjectType, is_abstract_type, is_leaf_type
from graphql.execution.executor import invalid_return_type_error
from graphql.pyutils import is_iterable  # pyright: ignore[reportUnknownVariableType] - generics that graphql-core leaves open

from graph.execution.planning.failures import Failure
from graph.execution.planning.fields import Field, Run, is_missing
from graph.execution.planning.leaves import complete_leaf


async def complete(run: Run, field: Field, type_: Any, values: Sequence[Any]) -> list[Any]:
    """Return the completed values of one position for all objects of a level: what the resolvers returned, or failures."""
    is_non_null = isinstance(type_, GraphQLNonNull)
    inner_type: Any = cast("Any", type_).of_type if is_non_null else type_
    if is_leaf_type(inner_type):
        return [
            value if isinstance(value, Failure) else complete_leaf(run, field, inner_type, value, is_non_null=is_non_null)
            for value in values
        ]
    values = [run.fail(value, field) if isinstance(value, Exception) else value for value in values]
    if isinstance(inner_type, GraphQLList):
        completed = await _complete_lists(run, field, cast("Any", inner_type).of_type, values)
    elif is_abstract_type(inner_type):
        completed = await _complete_abstract(run, field, inner_type, values)
    else:
        completed = await _complete_objects(run, field, inner_type, values)
    return [run.null(field) if value is None else value for value in completed] if is_non_null else completed


async def resolve_awaitables(run: Run, field: Field, values: list[Any]) -> list[Any]:
    """Replace awaitables by their results, awaited together, and by failures where they raise."""
    positions = [position for position, value in enumerate(values) if isawaitable(value)]
    if not positions:
        return values
    results = await asyncio.gather(*(values[position] for position in positions), return_exceptions=True)
    for position, result in zip(positions, results, strict=True):
        if isinstance(result, BaseException) and not isinstance(result, Exception):
            raise result
        values[position] = run.fail(result, field) if isinstance(result, Exception) else result
    return values


async def _complete_lists(run: Run, field: Field, item_type: Any, values: Sequence[Any]) -> list[Any]:
    items: list[Any] = []
    lengths: list[int] = []
    lists: list[Any] = []
    for value in values:
        entry = value
        if not is_missing(value):
            entry = await _list_of(run, field, value)
        lists.append(entry)
        if isinstance(entry, list):
            lengths.append(len(cast("list[Any]", entry)))
            items += entry
        else:
            lengths.append(0)
    completed = await complete(run, field, item_type, await resolve_awaitables(run, field, items))
    result: list[Any] = []
    start = 0
    for entry, length in zip(lists, lengths, strict=True):
        result.append(completed[start : start + length] if isinstance(entry, list) else entry)
        start += length
    return result


async def _list_of(run: Run, field: Field, value: Any) -> list[Any] | Failure:
    try:
        if hasattr(value, "__aiter__"):
            return [item async for item in value]
        if is_iterable(value):
            return list(cast("Iterable[Any]", value))
    except Exception as error:  # noqa: BLE001 - it becomes the field's error
        return run.fail(error, field)
    return run.fail(GraphQLError(f"Expected Iterable, but did not find one for field '{field.parent_type}.{field.field_name}'."), field)


async def _complete_objects(run: Run, field: Field, type_: GraphQLObjectType, values: Sequence[Any]) -> list[Any]:
    is_type_of: Callable[[Any, Any], bool | Awaitable[bool]] | None = type_.is_type_of
    result: list[Any] = [None if value is None or (is_missing(value) and not isinstance(value, Failure)) else value for value in values]
    positions = [position for position, value in enumerate(result) if not is_missing(value)]
    if is_type_of is not None and positions:
        info = field.info(run)
        verdicts = await resolve_awaitables(
            run, field, [_guarded(run, field, is_type_of, result[position], info) for position in positions]
        )
        for position, verdict in zip(positions, verdicts, strict=True):
            if isinstance(verdict, Failure):
                result[position] = verdict
            elif not verdict:
                result[position] = run.fail(invalid_return_type_error(type_, result[position], field.details), field)
        positions = [position for position in positions if not isinstance(result[position], Failure)]
    if positions:
        objects = await field.selection(type_).complete_instances(run, [result[position] for position in positions])
        for position, completed in zip(positions, objects, strict=True):
            result[position] = completed
    return result


def _guarded(run: Run, field: Field, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - it becomes the field's error
        return run.fail(error, field)


async def _complete_abstract(run: Run, field: Field, type_: Any, values: Sequence[Any]) -> list[Any]:
    """Complete the objects of each runtime type together."""
    result: list[Any] = [value if isinstance(value, Failure) else None for value in values]
    positions = [position for position, value in enumerate(values) if not is_missing(value)]
    if not positions:
        return result
    info = field.info(run)
    resolve_type: Callable[..., Any] = type_.resolve_type or run.executor.type_resolver
    names = [_guarded(run, field, resolve_type, values[position], info, type_) for position in positions]
    groups: dict[GraphQLObjectType, list[int]] = {}
    for position, name in zip(positions, await resolve_awaitables(run, field, names), strict=True):
        runtime_type = name
        if not isinstance(name, Failure):
            runtime_type = _guarded(run, field, run.executor.ensure_valid_runtime_type, name, type_, field.details, info, values[position])
        if isinstance(runtime_type, Failure):
            result[position] = runtime_type
        else:
            groups.setdefault(runtime_type, []).append(position)
    completed_groups = await asyncio.gather(
        *(_complete_objects(run, field, runtime_type, [values[position] for position in group]) for runtime_type, group in groups.items())
    )
    for group, objects in zip(groups.values(), completed_groups, strict=True):
        for position, completed in zip(group, objects, strict=True):
            result[position] = completed
    return result
