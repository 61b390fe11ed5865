"""Issues: problems in a file that do not make it unreadable."""

from __future__ import annotations

from typing import TypedDict

from workers.ml import limits
from workers.ml.reading.reader_state import ReaderState


class Issue(TypedDict):
    """Served as `ValidationIssue`. `row` counts the file's data rows from 1, including omitted rows."""

    code: str
    message: str
    column: str | None
    row: int | None


class IssueLog:
    """Stores the first thousand issues and counts all of them."""

    def __init__(self) -> None:
        self.entries: list[Issue] = []
        self.count = 0

    def add(self, code: str, message: str, *, column: str | None = None, row: int | None = None) -> None:
        self.count += 1
        if len(self.entries) < limits.MAX_ISSUES:
            self.entries.append({"code": code, "message": message, "column": column, "row": row})

    def add_uncounted(self, count: int) -> None:
        """Count issues without storing them, once the log is full."""
        self.count += count

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= limits.MAX_ISSUES

    def state(self, length: int | None = None, count: int | None = None) -> ReaderState:
        """The current state, or the earlier one with `length` stored issues and this `count`."""
        return {"kept": self.entries[:length], "count": self.count if count is None else count}

    @classmethod
    def from_state(cls, state: ReaderState) -> IssueLog:
        log = cls()
        log.entries, log.count = list(state["kept"]), state["count"]
        return log

    def extend_once(self, other: IssueLog) -> None:
        """Add the issues that are not there yet: another pass over a file finds the same again."""
        known = {(issue["code"], issue["column"], issue["row"]) for issue in self.entries}
        for issue in other.entries:
            if (issue["code"], issue["column"], issue["row"]) not in known:
                self.add(**issue)

    def extend(self, other: IssueLog) -> None:
        capacity = limits.MAX_ISSUES - len(self.entries)
        self.entries.extend(other.entries[:capacity])
        self.count += other.count


def short_repr(value: object, length: int = 60) -> str:
    """Return `repr(value)` shortened to `length` characters, for messages."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
