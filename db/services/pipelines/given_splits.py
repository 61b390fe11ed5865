"""Whether a version has the split that a pipeline takes from a column (`x-split-column` of the step's schema) instead of drawing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from db.core.checks import canonical_name
from db.errors import Issue
from db.services.pipelines.definitions import Definition, Steps, changed_columns, may_be_made, split_columns

ITEM_COLUMN = "split"
_TRAINING, _HELD_OUT = "train", frozenset({"validation", "test"})
"""The names that an ingest gives to the splits of items."""
_WAY_OUT = "Choose a version of an archive that names them, by folders or in a manifest, name another column, or draw the rows with the step 'split'."


def split_issues(definition: Definition, steps: Steps, columns: Sequence[Mapping[str, Any]], version: Row[Any]) -> list[Issue]:
    """Return an issue for a column that the version lacks, and for the split of items without training rows or any that are held out.

    Of other columns only the body knows the values; one that the definition names and that is unknown is told elsewhere.
    """
    issues: list[Issue] = []
    present = {canonical_name(column["name"]) for column in columns} | changed_columns(definition, steps)
    for index, node in enumerate(definition["nodes"]):
        step = steps.get(node["step"])
        for name, column in split_columns(step.parameter_schema, node["parameters"]) if step is not None else ():
            path = ("definition", "nodes", str(index), "parameters", name)
            if column in present:
                if column == ITEM_COLUMN and (message := _summary_message(version.item_splits)) is not None:
                    issues.append(Issue(path, f"{message} {_WAY_OUT}"))
            elif name not in node["parameters"] and not may_be_made(column, present, definition, steps):
                message = f"The version has no column {column!r} that says which rows are for training and which for the test."
                issues.append(Issue(path, f"{message} {_WAY_OUT}"))
    return issues


def _summary_message(counted: Any) -> str | None:
    """What is wrong with the splits of a version's items, [[name, number]]; None if nothing is, or if it has no items."""
    if not counted:
        return None
    names = {str(name) for name, _ in counted}
    if _TRAINING in names and names & _HELD_OUT:
        return None
    return f"The items of the version are of the splits {', '.join(sorted(names)[:5])}; train is needed, and test or validation."
