"""Issues: problems in a file that do not make it unreadable."""

from __future__ import annotations

from collections import Counter
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
    """Stores a thousand issues and counts all of them. The first of a kind in a column takes the place of a repeated one."""

    def __init__(self) -> None:
        self.entries: list[Issue] = []
        self.count = 0
        self._kinds: Counter[tuple[str, str | None]] = Counter()  # of `entries`, once the log is full

    def add(self, code: str, message: str, *, column: str | None = None, row: int | None = None) -> None:
        self.count += 1
        self._store({"code": code, "message": message, "column": column, "row": row})

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
        for issue in other.entries:
            self._store(issue)
        self.count += other.count

    def _store(self, issue: Issue) -> None:
        if not self.is_full:
            self.entries.append(issue)
            return
        if not self._kinds:
            self._kinds = Counter(map(_kind, self.entries))
        if _kind(issue) in self._kinds:
            return
        # A thousand broken rows must not hide what happened to a column.
        for index in reversed(range(len(self.entries))):
            if self._kinds[repeated := _kind(self.entries[index])] > 1:
                self._kinds[repeated] -= 1
                self._kinds[_kind(issue)] = 1
                del self.entries[index]
                self.entries.append(issue)
                return


def _kind(issue: Issue) -> tuple[str, str | None]:
    return issue["code"], issue["column"]


def short_repr(value: object, length: int = 60) -> str:
    """Return `repr(value)` shortened to `length` characters, for messages."""
    text = repr(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"
