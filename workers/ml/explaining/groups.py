"""The columns of the data that the columns of a model come from, which are explained together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workers.ml.prediction.features import KNOWN_ORIGINS, computed_names


def sources_of(signature: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the columns of the model by the column of the data that they come from: the parts of a date, the numbers of an
    embedding, or a column under another name.

    What a pipeline computes in another way, as by a formula or from the contents of items, has its own name.
    """
    derived = signature.get("derived", ())
    computed = computed_names((each["name"], each["from"]) for each in derived)
    roots: dict[str, str] = {}  # of columns that are made of one other, or of themselves
    for each in derived:
        if each["from"].keys() in ({"column"}, {"column", "clean"}):
            column = str(each["from"]["column"])
            roots[str(each["name"])] = roots.get(column, column)
    groups: dict[str, list[str]] = {}
    for each in signature["inputs"]:
        origin = each.get("from", {})
        is_known = origin.keys() <= KNOWN_ORIGINS and origin.get("column") not in computed
        source = origin.get("column")
        if "clean" in origin or "embedding" in origin:
            source = roots.get(each["name"] if "clean" in origin else source, source)
        groups.setdefault(source if is_known and source is not None else each["name"], []).append(each["name"])
    return groups


def chosen(groups: Mapping[str, Sequence[str]], features: Sequence[str] | None) -> list[str]:
    """Return the groups to tell of, in the order of the model."""
    return [name for name in groups if features is None or name in features]
