"""Factories of rows for tests. Each domain declares a `Factory` in its own module of this package; `platform` composes them."""

from __future__ import annotations

import pkgutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from typing import Any, NamedTuple

from db.core.base import Table
from tests.client import Client

Row = Mapping[str, Any]
Nodes = Mapping[str, Sequence[Row]]
Story = Callable[[Client, dict[str, str]], Awaitable[None]]


class Example(NamedTuple):
    """A value for a member of a filter, and which of the list's rows match it; `selection` selects what `fits` reads of a row."""

    value: Any
    selection: str
    fits: Callable[[Row], bool]


@dataclass(frozen=True)
class Factory:
    """How the tables of one domain are filled.

    `rows` inserts `:count` complete rows of each kind for the user named `:owner`, who has none yet. `states` adds, once, at least one row
    of each other status. Both are SQL statements that end with `;` at the end of a line. `story` creates rows through the API with a real
    worker and stores each id under a name, for the factories of later domains.
    """

    ids: Mapping[str, type[Table]]
    """Tables of the rows made here, by id prefix."""
    after: tuple[str, ...] = ()
    """The domains whose rows these reference."""
    rows: str = ""
    states: str = ""
    story: Story | None = None
    story_statuses: tuple[tuple[str, str], ...] = ()
    """Statuses that rows of `story` reach through the API and the worker, not by SQL, such as ("Job", "FAILED")."""
    conditions: Mapping[str, Callable[[Nodes], bool]] = field(default_factory=dict[str, Callable[[Nodes], bool]])
    """Conditions on the rows of `story`: a description, and whether it holds."""
    unfilled: tuple[str, ...] = ()
    """Fields that are empty in all complete rows, such as `Job.error`: all other fields are tested on rows that have a value."""
    examples: Mapping[str, tuple[Example, ...]] = field(default_factory=dict[str, tuple[Example, ...]])
    """Examples for filters, such as `ModelFilter.alias`, if none can be derived from the fields of the rows."""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    """Literals for required arguments, such as `Model.alias(name)`, and for text keys, such as `RunOrderKey.metric`; they match `rows`."""


@cache
def factories() -> Mapping[str, Factory]:
    """Return every domain's factory by module name, each after the ones it depends on."""
    names = {module.name for module in pkgutil.iter_modules(__path__)} - {"platform"}
    factories_by_name: dict[str, Factory] = {name: import_module(f"{__name__}.{name}").FACTORY for name in sorted(names)}
    order = TopologicalSorter({name: factory.after for name, factory in factories_by_name.items()}).static_order()
    return {name: factories_by_name[name] for name in order}


def examples() -> Mapping[str, tuple[Example, ...]]:
    """Return the filter examples of all domains."""
    return {member: given for factory in factories().values() for member, given in factory.examples.items()}


def arguments() -> Mapping[str, str]:
    """Return the argument literals of all domains."""
    return {place: literal for factory in factories().values() for place, literal in factory.arguments.items()}
