"""What is to be told of the rows that a model predicts, summed up by column."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

MAX_ISSUES = 200
MAX_VALUES = 5
MAX_VALUE_LENGTH = 100

IssueCode = Literal[
    "MISSING_COLUMN",
    "UNKNOWN_COLUMN",
    "MISSING_VALUES",
    "UNSEEN_CATEGORY",
    "WRONG_TYPE",
    "OUT_OF_RANGE",
    "CONVERTED_TO_TEXT",
    "UNUSABLE_ITEM",
    "MISSING_FILE",
]

_MESSAGES: dict[IssueCode, str] = {
    "MISSING_COLUMN": "There is no column '{column}'; {consequence}.",
    "UNKNOWN_COLUMN": "The model does not use the column '{column}'.",
    "MISSING_VALUES": "{rows} the column '{column}' has no value; {consequence}.",
    "UNSEEN_CATEGORY": "{rows} the column '{column}' has a category that was not in the training; the model treats all such alike.",
    "WRONG_TYPE": "{rows} the column '{column}' has a text that is no number, which counts as missing; {consequence}.",
    "OUT_OF_RANGE": "{rows} the column '{column}' has a number that is infinite or too large for the model; {consequence}.",
    "CONVERTED_TO_TEXT": "The column '{column}' is not text, as it was in the training; its values were converted.",
    "UNUSABLE_ITEM": "{rows} the step '{column}' of the model cannot use the item; there is no prediction.",
    "MISSING_FILE": "{rows} the column '{column}' names no file that can be read; {consequence}.",
}


@dataclass
class _Issue:
    code: IssueCode
    column: str
    is_predicted: bool
    count: int = 0
    first: int = 0
    values: dict[Any, None] = field(default_factory=dict[Any, None])


class IssueLog:
    """Collects issues over all batches. Rows are counted from 1."""

    def __init__(self) -> None:
        self._issues: dict[tuple[IssueCode, str], _Issue] = {}

    def column(self, code: IssueCode, column: str, *, is_predicted: bool = True) -> None:
        """Tell of a whole column, once."""
        self._issues.setdefault((code, column), _Issue(code, column, is_predicted))

    def rows(self, code: IssueCode, column: str, first: int, count: int, *, is_predicted: bool = True, values: Iterable[Any] = ()) -> None:
        """Tell of `count` rows, the `first` of them by its number. `is_predicted` if they have a prediction all the same."""
        issue = self._issues.setdefault((code, column), _Issue(code, column, is_predicted))
        issue.first = issue.first or first
        issue.count += count
        for value in values:
            if len(issue.values) == MAX_VALUES:
                break
            issue.values[value if not isinstance(value, str) else value[:MAX_VALUE_LENGTH]] = None

    def to_list(self) -> list[dict[str, Any]]:
        """Return {code, message, column, count, firstRow, values} of each, at most `MAX_ISSUES`."""
        return [
            {
                "code": issue.code,
                "message": _message(issue),
                "column": issue.column,
                "count": issue.count or None,
                "firstRow": issue.first or None,
                "values": list(issue.values),
            }
            for issue in list(self._issues.values())[:MAX_ISSUES]
        ]


def _message(issue: _Issue) -> str:
    rows = "In 1 row" if issue.count == 1 else f"In {issue.count:,} rows"
    consequence = "the model predicts without it" if issue.is_predicted else "without it there is no prediction"
    if issue.code == "OUT_OF_RANGE":
        consequence = "there is no prediction"
    return _MESSAGES[issue.code].format(column=issue.column, rows=f"{rows}, the first is row {issue.first:,},", consequence=consequence)
