"""Whether the list of a type takes a filter and an order."""

from typing import Any

import strawberry

from db.errors import Issue
from db.tables.search import SearchType
from graph.core.list_inputs import ListField

_LISTS = {
    "dataset": "datasets",
    "pipeline": "pipelines",
    "experiment": "experiments",
    "run": "runs",
    "model": "models",
    "study": "studies",
}
"""The root fields that list each type."""


def issues_of(schema: strawberry.Schema, target: SearchType, filter_: Any, order_by: Any) -> list[Issue]:
    """Return what the list does not take; nothing is wrong with None."""
    field = ListField("Query", _LISTS[target.value])
    issues: list[Issue] = []
    field.criteria(schema, filter_, issues)
    field.order(schema, order_by, issues)
    return issues
