"""What was wrong with a file without making it unreadable."""

from __future__ import annotations

from typing import TypedDict

from workers.ml import limits
from workers.ml.reading.reader_state import ReaderState


class Issue(TypedDict):
    """As `ValidationIssue` is served; `row` counts the file's data rows from 1, rows left out included."""

    code: str
    message: str
    column: str | None
    row: int | None


class IssueLog:
    """Keeps the first thousand issues word for word and counts all of them."""

    def __init__(self) -> None:
        self.entries: list[Issue] = []
        self.count = 0

    def add(self, code: str, message: str, *, column: str | None = None, row: int | None = None) -> None:
        self.count += 1
        if len(self.entries) < limits.MAX_ISSUES:
            self.entries.append({"code": code, "message": message, "column": column, "row": row})

    def add_uncounted(self, count: int) -> None:
        """Issues of a kind already described, which there is no room to keep."""
        self.count += count

    @property
    def is_full(self) -> bool:
        return len(self.entries) >= limits.MAX_ISSUES

    def state(self, length: int | None = None, count: int | None = None) -> ReaderState:
        """As it is, or as it was when it kept so few."""
        return {"kept": self.entries[:length], "count": self.count if count is None else count}

    @classmethod
    def from_state(cls, state: ReaderState) -> IssueLog:
        log = cls()
        log.entries, log.count = list(state["kept"]), state["count"]
        return log

    def extend(self, other: IssueLog) -> None:
        capacity = limits.MAX_ISSUES - len(self.entries)
        self.entries.extend(other.entries[:capacity])
        self.count += other.count


def short_repr(value: object, length: int = 60) -> str:
    """A value as messages quote it: short, on one line."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
