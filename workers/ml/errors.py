"""What a body raises to say whether trying again may help."""

from __future__ import annotations


class BadInput(Exception):
    """The file, a parameter or the data cannot be worked on; trying again changes nothing, so the job is never retried.

    `code` is UPPER_SNAKE and stable, `message` says what happened, where, and what to do next. `row` counts data rows
    from 1 (the header is not counted), `column` is a column's name, `path` leads to a parameter of the definition.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        row: int | None = None,
        column: str | None = None,
        path: list[str] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.row = row
        self.column = column
        self.path = path


class Transient(Exception):
    """It may work next time, with the same input: something that the body needs was away for a moment. The job is tried again.

    The message says what happened and where. `OSError`s count as this by themselves; anything else that a body raises is final.
    """
