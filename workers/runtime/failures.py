"""What goes wrong in a worker: what of it passes by itself, and what a job's error says of the rest."""

from __future__ import annotations

import errno
import traceback
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from db.core.work import PASSING
from db.errors import Unavailable
from db.services.jobs import Failure
from db.stores.objects import ObjectMissing
from workers.runtime.child import NurseryLost
from workers.runtime.frames import tellable

_NO_ROOM = "53"  # the class of what Postgres has too little of at the moment: disk, memory, connections


class BodyFailed(Exception):
    """The attempt ends as `failure` says."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def passes(error: BaseException) -> bool:
    """Whether what could not be written may be written when it is tried again."""
    if isinstance(error, Unavailable):
        return True
    state = sqlstate(error)
    return state is not None and (state in PASSING or state.startswith(_NO_ROOM))


def sqlstate(error: BaseException) -> str | None:
    """What Postgres calls it, whether the library or the driver alone raised it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None)


def failure_of(error: BaseException, *, had_body: bool) -> Failure:
    """What the job's error says. Before a body was told what to run, nothing that goes wrong is the job's doing, and no try is used.

    Whatever characters the words have, PostgreSQL can keep them.
    """
    failure = _failure(error)
    lost = failure.lost or (failure.retryable and not failure.away and not had_body and not isinstance(error, BodyFailed))
    told = None if failure.traceback is None else tellable(failure.traceback)
    column = None if failure.column is None else tellable(failure.column)
    return replace(failure, message=tellable(failure.message), traceback=told, column=column, lost=lost)


def _failure(error: BaseException) -> Failure:
    if isinstance(error, BodyFailed):
        return error.failure
    if isinstance(error, ObjectMissing):
        return Failure("OBJECT_MISSING", "A file that the job needs is gone from the store. Upload it again.", retryable=False)
    told = "".join(traceback.format_exception(error))[-20_000:]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The worker has no disk space left for the files of the job. Free some, or start a worker with more."
        return Failure("DISK_FULL", message, retryable=True, traceback=told)
    if isinstance(error, Unavailable):
        return Failure("UNAVAILABLE", error.message, retryable=True, traceback=told, away=True)
    if isinstance(error, NurseryLost):
        return Failure("BODY_KILLED", f"The worker could not keep the job's process. {error}", retryable=True, traceback=told, lost=True)
    return Failure("WORKER_ERROR", f"{type(error).__name__}: {error}"[:2_000], retryable=True, traceback=told)
