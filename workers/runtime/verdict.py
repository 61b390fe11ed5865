"""What an exception of a body says of the next try: `docs/adr/0009-which-failures-are-tried-again.md` gives the reasons."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from typing import Any

from workers.ml.errors import BadInput, Transient
from workers.runtime.frames import TooLarge

MESSAGE = 2_000
TRACEBACK = 20_000

_NO_MEMORY = ("bad_alloc", "Cannot allocate memory", "memory allocation of", "Unable to allocate", "out of memory")
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_TRANSIENT = (Transient, OSError, EOFError, BrokenExecutor)


def answer(error: BaseException, *, kills: int = 0) -> dict[str, Any]:
    """What the child tells its worker of the exception, as JSON: {"bad": ...}, {"memory": true} or {"error": ...}.

    `kills` is how many processes the kernel killed for want of memory while the body ran: one of them may be of a pool that broke.
    """
    if isinstance(error, BadInput):
        return {"bad": {"code": error.code, "message": error.message, "row": error.row, "column": error.column, "path": error.path}}
    causes = list(_causes(error))
    if any(_is(cause, MemoryError, (errno.ENOMEM,), _NO_MEMORY) for cause in causes):
        return {"memory": True}
    if kills > 0 and any(isinstance(cause, BrokenExecutor) for cause in causes):
        return {"memory": True}
    code, retryable = _kind(error, causes)
    told = "".join(traceback.format_exception(error))[-TRACEBACK:]
    return {"error": {"code": code, "message": f"{type(error).__name__}: {error}"[:MESSAGE], "retryable": retryable, "traceback": told}}


def _kind(error: BaseException, causes: list[BaseException]) -> tuple[str, bool]:
    if any(_is(cause, None, (errno.ENOSPC, errno.EDQUOT), _NO_SPACE) for cause in causes):
        return "DISK_FULL", True
    if any(_is(cause, None, (errno.EFBIG,), ("File too large",)) for cause in causes):
        return "FILE_LIMIT", False
    if isinstance(error, SystemExit):
        return "BODY_EXITED", False
    if isinstance(error, TooLarge):
        return "RESULT_TOO_LARGE", False
    return "BODY_FAILED", any(isinstance(cause, _TRANSIENT) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and those that it says it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _is(error: BaseException, kind: type[BaseException] | None, numbers: tuple[int, ...], words: tuple[str, ...]) -> bool:
    """Native libraries tell what the system told them in words alone, with an exception of their own."""
    if kind is not None and isinstance(error, kind):
        return True
    if isinstance(error, OSError) and error.errno in numbers:
        return True
    return not isinstance(error, (ValueError, LookupError, TypeError, AssertionError)) and any(word in str(error) for word in words)
