"""Errors in a worker: which are transient, and which job failure the others become."""

from __future__ import annotations

import errno
import traceback
from dataclasses import replace

from sqlalchemy.exc import DBAPIError

from db.core.database_errors import TRANSIENT_SQLSTATES
from db.errors import StoreRefused, Unavailable
from db.services.jobs import Failure
from db.stores.objects import ObjectMissing
from workers.runtime.frames import sanitize
from workers.runtime.process_pool import ForkserverUnavailable

_INSUFFICIENT_RESOURCES = "53"  # SQLSTATE class 53, insufficient resources: disk, memory, connections


class BodyFailed(Exception):
    """Ends the attempt with `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def is_transient(error: BaseException) -> bool:
    """Whether a write that failed may succeed on a retry."""
    if isinstance(error, Unavailable):
        return not isinstance(error, StoreRefused)
    code = sqlstate(error)
    return code is not None and (code in TRANSIENT_SQLSTATES or code.startswith(_INSUFFICIENT_RESOURCES))


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error of SQLAlchemy or of the driver; None for others."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return getattr(cause, "sqlstate", None)


def failure_of(error: BaseException, *, body_started: bool) -> Failure:
    """Return the job's failure. Before a body was started, a retryable error is not the job's fault and uses no try.

    All texts are sanitized for PostgreSQL.
    """
    failure = _failure(error)
    worker_lost = failure.worker_lost or (
        failure.retryable and not failure.service_unavailable and not body_started and not isinstance(error, BodyFailed | StoreRefused)
    )
    traceback_text = None if failure.traceback is None else sanitize(failure.traceback)
    column = None if failure.column is None else sanitize(failure.column)
    return replace(failure, message=sanitize(failure.message), traceback=traceback_text, column=column, worker_lost=worker_lost)


def _failure(error: BaseException) -> Failure:
    if isinstance(error, BodyFailed):
        return error.failure
    if isinstance(error, ObjectMissing):
        return Failure("OBJECT_MISSING", "A file that the job needs is missing from the object store. Upload it again.", retryable=False)
    traceback_text = "".join(traceback.format_exception(error))[-20_000:]
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        message = "The worker has no disk space left for the files of the job. Free some, or start a worker with more."
        return Failure("DISK_FULL", message, retryable=True, traceback=traceback_text)
    if isinstance(error, StoreRefused):
        return Failure("STORE_REFUSED", error.message, retryable=True, traceback=traceback_text)
    if isinstance(error, Unavailable):
        return Failure("UNAVAILABLE", error.message, retryable=True, traceback=traceback_text, service_unavailable=True)
    if isinstance(error, ForkserverUnavailable):
        return Failure(
            "BODY_KILLED",
            f"The worker lost the job's process. {error}",
            retryable=True,
            traceback=traceback_text,
            worker_lost=True,
        )
    return Failure("WORKER_ERROR", f"{type(error).__name__}: {error}"[:2_000], retryable=True, traceback=traceback_text)
