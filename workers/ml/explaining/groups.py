"""The columns of the data that the columns of a model come from, which are explained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_KNOWN_ORIGINS = frozenset({"column", "part", "clean"})


def sources_of(signature: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the columns of the model by the column of the data that they come from: the parts of a date, or a column under another name.

    What a pipeline computes in another way, as by a formula or from the contents of items, has its own name.
    """
    derived = signature.get("derived", ())
    computed = {each["name"] for each in derived if not each["from"].keys() <= _KNOWN_ORIGINS}
    roots: dict[str, str] = {}  # of columns that are made of one other, or of themselves
    for each in derived:
        if each["from"].keys() in ({"column"}, {"column", "clean"}):
            column = str(each["from"]["column"])
            roots[str(each["name"])] = roots.get(column, column)
    groups: dict[str, list[str]] = {}
    for each in signature["inputs"]:
        origin = each.get("from", {})
        is_known = origin.keys() <= _KNOWN_ORIGINS and origin.get("column") not in computed
        source = roots.get(each["name"], origin.get("column")) if "clean" in origin else origin.get("column")
        groups.setdefault(source if is_known and source is not None else each["name"], []).append(each["name"])
    return groups


def chosen(groups: Mapping[str, Sequence[str]], features: Sequence[str] | None) -> list[str]:
    """Return the groups to tell of, in the order of the model."""
    return [name for name in groups if features is None or name in features]
