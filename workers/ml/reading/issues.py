"""What was wrong with a file without making it unreadable."""

from __future__ import annotations

from typing import TypedDict

from workers.ml import limits
from workers.ml.reading.marks import Mark


class Issue(TypedDict):
    """As `ValidationIssue` is served; `row` counts the file's data rows from 1, rows left out included."""

    code: str
    message: str
    column: str | None
    row: int | None


class IssueLog:
    """Keeps the first thousand issues word for word and counts all of them."""

    def __init__(self) -> None:
        self.kept: list[Issue] = []
        self.count = 0

    def add(self, code: str, message: str, *, column: str | None = None, row: int | None = None) -> None:
        self.count += 1
        if len(self.kept) < limits.ISSUES_KEPT:
            self.kept.append({"code": code, "message": message, "column": column, "row": row})

    def count_only(self, number: int) -> None:
        """Issues of a kind already described, which there is no room to keep."""
        self.count += number

    @property
    def is_full(self) -> bool:
        return len(self.kept) >= limits.ISSUES_KEPT

    def state(self, kept: int | None = None, count: int | None = None) -> Mark:
        """As it is, or as it was when it kept so few."""
        return {"kept": self.kept[:kept], "count": self.count if count is None else count}

    @classmethod
    def restored(cls, state: Mark) -> IssueLog:
        log = cls()
        log.kept, log.count = list(state["kept"]), state["count"]
        return log

    def extend(self, other: IssueLog) -> None:
        room = limits.ISSUES_KEPT - len(self.kept)
        self.kept.extend(other.kept[:room])
        self.count += other.count


def shown(value: object, length: int = 60) -> str:
    """A value as messages quote it: short, on one line."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
