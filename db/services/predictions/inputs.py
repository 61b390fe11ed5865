"""What a prediction is asked for, compared with what the model takes, before a job is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from db.core.checks import Checks, composed
from db.services.predictions.signatures import Input, Signature
from db.tables.datasets import ColumnType, Modality

MAX_ROWS = 1_000
MAX_ISSUES = 100
MAX_NAMED_COLUMNS = 10
# Beyond it a float32, by which trees compare, is infinite; as in training.
MAX_NUMBER = 1e37

Rows = Sequence[Mapping[str, Any]]

_NOT_A_NUMBER = frozenset({ColumnType.DATE, ColumnType.DATETIME, ColumnType.JSON, ColumnType.BINARY})
_NOT_A_TEXT = _NOT_A_NUMBER | {ColumnType.TIME, ColumnType.DURATION}
_FILE_NAMES = frozenset({ColumnType.STRING, ColumnType.CATEGORY})
_DATES = frozenset({ColumnType.DATE, ColumnType.DATETIME})


def check_rows(checks: Checks, rows: Sequence[Any], signature: Signature) -> list[dict[str, Any]]:
    """Return the rows by composed names of columns. Add an issue for each value that the model cannot take, `MAX_ISSUES` at most."""
    if not 1 <= len(rows) <= MAX_ROWS:
        checks.add("rows", message=f"There are {len(rows):,} rows; send 1 to {MAX_ROWS:,}. For more, upload them and use `predictDataset`.")
        return []
    checked: list[dict[str, Any]] = []
    for index, row in enumerate(rows):
        if isinstance(row, dict):
            checked.append({composed(str(name)): value for name, value in row.items()})  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] - a JSON object
        else:
            checks.add("rows", index, message="A row is a JSON object, a value for each column by its name.")
    if checks.issues:
        del checks.issues[MAX_ISSUES:]
        return checked
    names = {name for row in checked for name in row}
    absent = [each for each in signature.inputs if not names & {each.name, each.source}]
    _check_absent(checks, "rows", "No row has", absent, signature)
    absent_names = {each.name for each in absent}
    present = [each for each in signature.inputs if each.name not in absent_names]
    for index, row in enumerate(checked):
        told: set[str] = set()  # several parts of a date are read from one column
        for each in present:
            name, message = _value_issue(row, each)
            if message is not None and name not in told:
                told.add(name)
                checks.add("rows", index, name, message=message)
        if len(checks.issues) >= MAX_ISSUES:
            del checks.issues[MAX_ISSUES:]
            break
    return checked


def check_columns(
    checks: Checks, columns: Sequence[Mapping[str, Any]], signature: Signature, modality: Modality, item_count: int | None
) -> None:
    """Add an issue for each column of a version that the model cannot take, and for those that it needs and the version has not."""
    types = {composed(column["name"]): ColumnType[column["type"]] for column in columns}
    if signature.modalities and not (item_count and modality.name in signature.modalities):
        message = f"The model reads the contents of {' or '.join(signature.modalities)} items, and the version has none. Choose a version of such a dataset."
        checks.add("datasetVersionId", message=message)
        return
    for name in signature.files:
        if types.get(name) not in _FILE_NAMES:
            message = f"The model reads the files that texts in the column {name!r} name, and the version has no such column. Choose another version."
            checks.add("datasetVersionId", message=message)
    absent = [each for each in signature.inputs if not (each.is_read or each.is_computed or types.keys() & {each.name, each.source})]
    _check_absent(checks, "datasetVersionId", "The version does not have", absent, signature)
    told: set[str] = set()
    for each in signature.inputs:
        if each.is_read:
            continue
        if each.is_computed:
            message = f"The model takes the column {each.name!r}, which its pipeline computes from others. Predict with `predict`, which takes its values."
            checks.add("datasetVersionId", message=message)
            continue
        if each.part is not None and each.source in types and types[each.source] in _DATES:
            continue
        name = each.source if each.source in types and (each.part is None or each.name not in types) else each.name
        takes_number = each.kind == "number" and not (each.is_embedded and name == each.source)
        if name in types and name not in told and types[name] in (_NOT_A_NUMBER if takes_number else _NOT_A_TEXT):
            told.add(name)
            expected = "dates" if name == each.source and each.part is not None else "numbers" if takes_number else "texts"
            message = f"The column {name!r} is of type {types[name].name}, and the model takes {expected}. Choose another version."
            checks.add("datasetVersionId", message=message)
    del checks.issues[MAX_ISSUES:]


def _check_absent(checks: Checks, field: str, subject: str, absent: Sequence[Input], signature: Signature) -> None:
    """The model fills in a column that it can do without. Without any column there is nothing to predict from."""
    needed = absent if len(absent) == len(signature.inputs) else [each for each in absent if each.is_nullable is False]
    if needed:
        names = list(dict.fromkeys(each.source or each.name for each in needed))
        more = f" and {len(names) - MAX_NAMED_COLUMNS:,} more" if len(names) > MAX_NAMED_COLUMNS else ""
        named = ", ".join(repr(name) for name in names[:MAX_NAMED_COLUMNS]) + more
        way_out = ""
        if any(each.is_read for each in needed):
            kinds = " or ".join(signature.modalities)
            way_out = f" The model reads them from the contents of items: use `predictDataset` on a version with {kinds} items, or give the values."
        checks.add(field, message=f"{subject} the column{'' if len(names) == 1 else 's'} {named}, which the model needs.{way_out}")


def _value_issue(row: Mapping[str, Any], each: Input) -> tuple[str, str | None]:
    """Return the name of the column, and what is wrong with its value in this row, if anything."""
    name = each.source if each.source is not None and each.source in row else each.name
    if name == each.source and each.part is not None:
        value = row[name]
        if value is None:
            return name, _missing(each)
        if isinstance(value, str) and _is_date(value):
            return name, None
        return name, f'A date is expected, in ISO 8601 as in "2026-01-31" or "2026-01-31T12:00:00"; this is {_shown(value)}.'
    value = row.get(name)
    if value is None:
        return name, _missing(each)
    if each.kind == "text" or (each.is_embedded and name == each.source):
        return name, None if isinstance(value, str) else f"A text is expected; this is {_shown(value)}. Put it in quotes."
    if not isinstance(value, int | float):
        return name, f"A number is expected; this is {_shown(value)}."
    if abs(value) > MAX_NUMBER:
        return name, f"A model takes numbers up to {MAX_NUMBER:g}; this is {value:g}."
    return name, None


def _missing(each: Input) -> str | None:
    return None if each.is_nullable is not False else "The model needs a value here; it was trained without missing ones."


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"the text {value if len(value) <= 40 else value[:39] + '…'!r}"
    if isinstance(value, bool):
        return str(value).lower()
    return "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"the number {value}"
