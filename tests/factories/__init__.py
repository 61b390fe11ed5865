"""Rows for tests. Each domain declares a `Factory` in its own module of this package; `platform` finds and composes them."""

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
    """A value for a member of a filter, and which of the list's rows fit it; `selection` is what `fits` reads of a row."""

    value: Any
    selection: str
    fits: Callable[[Row], bool]


@dataclass(frozen=True)
class Factory:
    """How the tables of one domain get rows.

    `rows` makes `:count` complete rows of each kind for the user named `:owner`, whose tables are empty. `states` adds, once, what the graph
    can show besides: at least one row of each status. Both are SQL, statements ending with `;` at the end of a line. `story` makes rows as
    users make them, through the API and with a real worker, and writes each id under a name; domains that come later find them there.
    """

    ids: Mapping[str, type[Table]]
    """The id prefixes of the rows that are made here, and the tables of the rows."""
    after: tuple[str, ...] = ()
    """The domains whose rows these refer to."""
    rows: str = ""
    states: str = ""
    story: Story | None = None
    told: tuple[tuple[str, str], ...] = ()
    """The statuses that rows of `story` end with, as ("Job", "FAILED"): what users do and the workers made of it, not what SQL wrote."""
    fates: Mapping[str, Callable[[Nodes], bool]] = field(default_factory=dict[str, Callable[[Nodes], bool]])
    """What must be among the rows of `story` besides: a sentence, and whether it holds."""
    unfilled: tuple[str, ...] = ()
    """The fields that no complete row has, as `Job.error`: all others are tried on rows that have them."""
    examples: Mapping[str, tuple[Example, ...]] = field(default_factory=dict[str, tuple[Example, ...]])
    """Examples for filters, as `ModelFilter.alias`, where none can be derived from the fields of the rows."""
    arguments: Mapping[str, str] = field(default_factory=dict[str, str])
    """Literals for arguments that must be given, as `Model.alias(name)`, and for texts of orders, as `RunOrderKey.metric`; they fit `rows`."""


@cache
def factories() -> Mapping[str, Factory]:
    """Every domain's factory by the name of its module, each after those that it refers to."""
    names = {module.name for module in pkgutil.iter_modules(__path__)} - {"platform"}
    found: dict[str, Factory] = {name: import_module(f"{__name__}.{name}").FACTORY for name in sorted(names)}
    order = TopologicalSorter({name: factory.after for name, factory in found.items()}).static_order()
    return {name: found[name] for name in order}


def examples() -> Mapping[str, tuple[Example, ...]]:
    """The examples of all domains."""
    return {member: given for factory in factories().values() for member, given in factory.examples.items()}


def arguments() -> Mapping[str, str]:
    """The arguments of all domains."""
    return {place: literal for factory in factories().values() for place, literal in factory.arguments.items()}
