"""Classifies a body's exception as retryable or not; `docs/adr/0009-which-failures-are-tried-again.md` gives the reasons."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

from workers.ml.errors import BadInput, Transient
from workers.runtime.frames import FrameTooLarge

MAX_MESSAGE_CHARS = 2_000
MAX_TRACEBACK_CHARS = 20_000

_OUT_OF_MEMORY_MESSAGES = ("bad_alloc", "Cannot allocate memory", "memory allocation of", "Unable to allocate", "out of memory")
_DISK_FULL_MESSAGES = ("No space left on device", "Disk quota exceeded")
_TRANSIENT_ERRORS = (Transient, OSError, EOFError, BrokenExecutor)


def error_response(error: BaseException, *, oom_kills: int = 0) -> dict[str, Any]:
    """Return the child's response for the exception: {"bad_input": ...}, {"out_of_memory": true} or {"error": ...}.

    `oom_kills` is how many processes the kernel's OOM killer killed while the body ran: one may have belonged to a broken process pool.
    """
    if isinstance(error, BadInput):
        return {"bad_input": {"code": error.code, "message": error.message, "row": error.row, "column": error.column, "path": error.path}}
    causes = list(_causes(error))
    if any(_matches(cause, MemoryError, (errno.ENOMEM,), _OUT_OF_MEMORY_MESSAGES) for cause in causes):
        return {"out_of_memory": True}
    if oom_kills > 0 and any(isinstance(cause, BrokenExecutor) for cause in causes):
        return {"out_of_memory": True}
    code, retryable = _classify(error, causes)
    traceback_text = "".join(traceback.format_exception(error))[-MAX_TRACEBACK_CHARS:]
    return {
        "error": {
            "code": code,
            "message": f"{type(error).__name__}: {error}"[:MAX_MESSAGE_CHARS],
            "retryable": retryable,
            "traceback": traceback_text,
        }
    }


def _classify(error: BaseException, causes: list[BaseException]) -> tuple[str, bool]:
    if any(_matches(cause, None, (errno.ENOSPC, errno.EDQUOT), _DISK_FULL_MESSAGES) for cause in causes):
        return "DISK_FULL", True
    if any(_matches(cause, None, (errno.EFBIG,), ("File too large",)) for cause in causes):
        return "FILE_LIMIT", False
    if isinstance(error, SystemExit):
        return "BODY_EXITED", False
    if isinstance(error, FrameTooLarge):
        return "RESULT_TOO_LARGE", False
    return "BODY_FAILED", any(isinstance(cause, _TRANSIENT_ERRORS) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and its chain of explicit causes (`raise ... from`)."""
    seen_ids: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen_ids:
        seen_ids.add(id(cause))
        yield cause
        cause = cause.__cause__


def _matches(error: BaseException, error_type: type[BaseException] | None, errnos: tuple[int, ...], messages: tuple[str, ...]) -> bool:
    """Match by type, errno or message: native libraries raise their own types with the system's error text."""
    if error_type is not None and isinstance(error, error_type):
        return True
    if isinstance(error, OSError) and error.errno in errnos:
        return True
    return not isinstance(error, (ValueError, LookupError, TypeError, AssertionError)) and any(
        message in str(error) for message in messages
    )
