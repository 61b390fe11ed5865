"""Errors that a body raises: `BadInput` is final, `Transient` is retried."""

from __future__ import annotations


class BadInput(Exception):
    """The file, a parameter or the data cannot be processed. A retry would fail the same way, so the job is never retried.

    `code` is UPPER_SNAKE and stable; `message` says what happened, where, and what to do next. `row` counts data rows from 1
    (the header is not counted), `column` is a column's name, `path` points to a parameter in the pipeline definition.
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
    """A dependency of the body failed temporarily; the same input may succeed next time. The job is retried.

    The message says what happened and where. The engine treats an `OSError` as transient, too; any other exception is final.
    """
