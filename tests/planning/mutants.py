"""Faults of a planner, each of which the comparison with graphql-core must find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytest
from graphql import GraphQLNonNull

from db.core import page, record_page
from db.core.batch import RowsByKey
from graph.core.edges import Paged, PageRequest
from graph.execution.planning import builder, edges, failures, leaves, pages, plan, selections, steps
from graph.execution.planning.fields import Field, Run

Mutant = Callable[[pytest.MonkeyPatch], None]


def lost_null_propagation(patch: pytest.MonkeyPatch) -> None:
    """A non-null field that fails becomes null itself."""
    original = failures.settle

    def settle(value: Any, type_: Any, *rest: Any) -> Any:
        return original(value, type_.of_type if isinstance(type_, GraphQLNonNull) else type_, *rest)

    patch.setattr(failures, "settle", settle)


def null_propagates_too_far(patch: pytest.MonkeyPatch) -> None:
    """Every failure takes its object with it."""
    original = failures.settle

    def settle(value: Any, type_: Any, *rest: Any) -> Any:
        is_nullable = isinstance(value, failures.Failure) and not isinstance(type_, GraphQLNonNull)
        return original(value, cast("Any", GraphQLNonNull)(type_) if is_nullable else type_, *rest)

    patch.setattr(failures, "settle", settle)


def lost_violation(patch: pytest.MonkeyPatch) -> None:
    """Null in a non-null field is no error."""
    patch.setattr(Field, "null_or_failure", lambda _self, _run: None)


def lost_alias(patch: pytest.MonkeyPatch) -> None:
    """Steps write under the name of the field."""
    original = selections.Level.fill

    def fill(self: selections.Level, name: str, values: Sequence[Any]) -> None:
        original(self, name[:1] if name.startswith("a1") else name, values)

    patch.setattr(selections.Level, "fill", fill)


def swapped_parents(patch: pytest.MonkeyPatch) -> None:
    """Each object gets the value of its neighbour."""
    original = selections.Level.fill
    patch.setattr(selections.Level, "fill", lambda self, name, values: original(self, name, [*values[1:], *values[:1]]))


def stale_cursor(patch: pytest.MonkeyPatch) -> None:
    """A page starts at the beginning, whatever `after` says."""
    original = Paged.request

    def request(self: Paged, arguments: dict[str, Any]) -> PageRequest:
        return original(self, arguments if plan_is_off() else {**arguments, "after": None})

    patch.setattr(Paged, "request", request)


def plan_is_off() -> bool:
    from graph.execution.timeout import PLANNER

    return not PLANNER.is_enabled


def fixed_variables(patch: pytest.MonkeyPatch) -> None:
    """The arguments of the first execution are those of all."""
    original = Field.core_arguments

    def core_arguments(self: Field, run: Run) -> dict[str, Any]:
        self.has_fixed_arguments = True
        return original(self, run)

    patch.setattr(Field, "core_arguments", core_arguments)


def skipped_policy(patch: pytest.MonkeyPatch) -> None:
    """Records are read as an admin."""
    from db.core.viewer import SYSTEM

    original = RowsByKey.records
    patch.setattr(RowsByKey, "records", lambda self, database, _viewer, *rest: original(self, database, SYSTEM, *rest))


def shared_rights(patch: pytest.MonkeyPatch) -> None:
    """A prepared select of an admin is used for everybody."""
    from db.core import prepared

    original = prepared.PreparedSelects.get
    prepared_first: dict[Any, Any] = {}

    def get(self: Any, key: Any, *rest: Any) -> Any:
        return prepared_first.setdefault(key, original(self, key, *rest))

    patch.setattr(prepared.PreparedSelects, "get", get)


def skipped_scope(patch: pytest.MonkeyPatch) -> None:
    """Root edges are open to everybody."""
    patch.setattr(edges, "require_scope", lambda _scope, _context, _place: None)


def ignored_conditions(patch: pytest.MonkeyPatch) -> None:
    """The first plan is used whatever the variables of `@skip` and `@include` are."""
    patch.setattr(plan, "_condition_variables", lambda _operation, _fragments: ())


def unmerged_selections(patch: pytest.MonkeyPatch) -> None:
    """Of a field that is selected twice, only the first selection counts."""
    original = builder.PlanBuilder._grouped_below

    def grouped_below(self: Any, field: Field, type_: Any) -> Mapping[str, Any]:
        field.details = field.details[:1]
        return original(self, field, type_)

    patch.setattr(builder.PlanBuilder, "_grouped_below", grouped_below)


def raw_members(patch: pytest.MonkeyPatch) -> None:
    """Enums are written as they are stored."""
    patch.setattr(leaves, "member_names", lambda _type, members, *, is_non_null: {None: None, **{stored: stored for stored in members}})


def short_times(patch: pytest.MonkeyPatch) -> None:
    """Whole seconds lose their fraction."""
    original = leaves._leaf_code
    patch.setattr(leaves, "_leaf_code", lambda *rest: original(*rest).replace("and v.microsecond ", ""))


def one_row_too_few(patch: pytest.MonkeyPatch) -> None:
    """Whether more rows follow is never known."""
    original = page.make_page
    patch.setattr(record_page, "make_page", lambda rows, page_slice, cursor_of: original(rows[: page_slice.size], page_slice, cursor_of))


def lost_order_of_fields(patch: pytest.MonkeyPatch) -> None:
    """Fields of steps come after the leaves."""
    original = leaves.compile_writer

    def compile_writer(entries: Mapping[str, Any], access: Any) -> Any:
        return original(dict(sorted(entries.items(), key=lambda entry: entry[1] is None)), access)

    patch.setattr(selections, "compile_writer", compile_writer)


def unawaited_error(patch: pytest.MonkeyPatch) -> None:
    """A resolver that raises returns null."""
    patch.setattr(Run, "fail", lambda _self, _error, _field: None)


def filter_of_counts(patch: pytest.MonkeyPatch) -> None:
    """Counts ignore the filter."""
    original = pages.PagedStep._read_counts

    async def read_counts(self: Any, run: Run, parents: list[Any], request: PageRequest) -> Any:
        return await original(self, run, parents, PageRequest(request.page_slice, None, request.order))

    patch.setattr(pages.PagedStep, "_read_counts", read_counts)


def lost_error(patch: pytest.MonkeyPatch) -> None:
    """Only the first error is reported."""
    original = plan.Plan.execute

    async def execute(self: plan.Plan, executor: Any) -> Any:
        result = await original(self, executor)
        result.errors = result.errors and result.errors[:1]
        return result

    patch.setattr(plan.Plan, "execute", execute)


def resolved_once(patch: pytest.MonkeyPatch) -> None:
    """All objects of a level get the value of the first."""
    original = steps.ResolverStep._values
    patch.setattr(steps.ResolverStep, "_values", lambda self, run, level: original(self, run, level)[:1] * len(level.sources))


def texts_of_neighbours(patch: pytest.MonkeyPatch) -> None:
    """Each parent gets the page of the next."""
    original = pages.PagedStep._read_texts

    async def read_texts(self: Any, run: Run, parents: list[Any], *rest: Any) -> Any:
        return await original(self, run, [*parents[1:], *parents[:1]], *rest)

    patch.setattr(pages.PagedStep, "_read_texts", read_texts)


MUTANTS: tuple[Mutant, ...] = (
    lost_null_propagation,
    null_propagates_too_far,
    lost_violation,
    lost_alias,
    swapped_parents,
    stale_cursor,
    fixed_variables,
    skipped_policy,
    shared_rights,
    skipped_scope,
    ignored_conditions,
    unmerged_selections,
    raw_members,
    short_times,
    one_row_too_few,
    lost_order_of_fields,
    unawaited_error,
    filter_of_counts,
    lost_error,
    resolved_once,
    texts_of_neighbours,
)
