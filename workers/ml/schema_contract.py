"""Compares the columns of a table with an accepted schema, the contract of its dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypedDict

from workers.ml.errors import BadInput
from workers.ml.profiling import ColumnReport, ProfileReport
from workers.ml.reading.issues import Issue

_ALSO: Final[Mapping[str, frozenset[str]]] = {
    # Whether text is a category depends on how often values repeat, and a column of numbers or times may happen to need less than its type.
    "CATEGORY": frozenset({"STRING"}),
    "STRING": frozenset({"CATEGORY"}),
    "FLOAT": frozenset({"INTEGER", "DECIMAL"}),
    "DECIMAL": frozenset({"INTEGER"}),
    "DATETIME": frozenset({"DATE"}),
}
SCHEMA_BROKEN: Final = "SCHEMA_BROKEN"
COLUMN_NEW: Final = "SCHEMA_COLUMN_NEW"
_MAX_NAMED: Final = 10


class Contract(TypedDict):
    """The accepted columns, as `ProposedColumn`, and whether a version that breaks them fails."""

    columns: list[dict[str, Any]]
    fails: bool


def check_contract(contract: Contract, profile: ProfileReport) -> list[Issue]:
    """Return what differs from the contract, each with its column. Raises BadInput (SCHEMA_BROKEN) if the contract says so.

    A column that is ignored is not compared. A new column is told and breaks nothing.
    """
    columns = {column["name"]: column for column in profile["columns"]}
    accepted = {column["name"]: column for column in contract["columns"]}
    issues = [
        issue
        for name, column in accepted.items()
        if column["role"] != "IGNORED"
        for issue in _differences(column, columns.get(name), profile)
    ]
    if issues and contract["fails"]:
        raise BadInput(SCHEMA_BROKEN, _message(issues), column=issues[0]["column"])
    issues += [_issue(COLUMN_NEW, name, f"The column {name!r} is not in the accepted schema.") for name in columns if name not in accepted]
    return issues


def _differences(accepted: Mapping[str, Any], column: ColumnReport | None, profile: ProfileReport) -> list[Issue]:
    name = accepted["name"]
    if column is None:
        return [_issue("SCHEMA_COLUMN_MISSING", name, f"The accepted schema has a column {name!r}, and the file has none.")]
    issues: list[Issue] = []
    is_empty = column["missing_count"] == profile["row_count"]
    if not is_empty and column["type"] not in {accepted["type"], *_ALSO.get(accepted["type"], ())}:
        message = f"The column {name!r} is {column['type']}; the accepted schema has {accepted['type']}."
        issues.append(_issue("SCHEMA_TYPE_CHANGED", name, message))
    if column["missing_count"] and not accepted["nullable"]:
        message = f"The column {name!r} lacks {column['missing_count']:,} values; by the accepted schema none is missing."
        issues.append(_issue("SCHEMA_NULLS", name, message))
    repeated = profile["row_count"] - column["missing_count"] - column["distinct_count"]
    if accepted["role"] == "IDENTIFIER" and profile["is_exact"] and repeated > 0:
        message = f"The column {name!r} identifies rows by the accepted schema, and {repeated:,} of its values repeat an earlier one."
        issues.append(_issue("SCHEMA_NOT_UNIQUE", name, message))
    return issues


def _issue(code: str, column: str, message: str) -> Issue:
    return {"code": code, "message": message, "column": column, "row": None}


def _message(issues: Sequence[Issue]) -> str:
    told = " ".join(issue["message"] for issue in issues[:_MAX_NAMED])
    more = f" And {len(issues) - _MAX_NAMED:,} more." if len(issues) > _MAX_NAMED else ""
    return f"The file breaks the accepted schema of the dataset. {told}{more} Mend the file, or accept another schema or set `schemaPolicy` to WARN."
