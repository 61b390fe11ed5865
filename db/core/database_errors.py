"""The exceptions of PostgreSQL's driver: translated into ours, and asked what they mean."""

from __future__ import annotations

import asyncpg
from sqlalchemy import exc

from db.errors import DatabaseNotMigrated, StateError, Unavailable

_TOO_MANY_ARGUMENTS = (
    "number of query arguments"  # asyncpg raises this as InterfaceError, like a lost connection; it is a fault of the statement
)

# Errors of a PostgreSQL that starts, recovers, stops or has no connection left.
_CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
)

# Undefined table, undefined column.
_NOT_MIGRATED_SQLSTATES = frozenset({"42P01", "42703"})

_STATEMENT_TIMEOUT = "57014"
# Transient aborts that may pass when retried: deadlock, serialization failure, statement or lock timeout.
TRANSIENT_SQLSTATES = frozenset({"40P01", "40001", _STATEMENT_TIMEOUT, "55P03"})


def is_transient(error: exc.DBAPIError) -> bool:
    """Whether PostgreSQL aborted the transaction because of concurrent work, so that a retry may pass."""
    return getattr(error.orig, "sqlstate", None) in TRANSIENT_SQLSTATES


def is_statement_timeout(error: exc.DBAPIError) -> bool:
    """Whether PostgreSQL ended the statement because it took too long."""
    return getattr(error.orig, "sqlstate", None) == _STATEMENT_TIMEOUT


def _driver_error(error: exc.DBAPIError) -> BaseException | None:
    """Return the driver's exception under SQLAlchemy's two wrappers. SQLAlchemy does not report a disconnect if no connection was open."""
    return None if error.orig is None else error.orig.__cause__


class translate_errors:  # noqa: N801 - reads as a statement: with translate_errors()
    """Translate a lost or refused connection into `Unavailable`, a missing table into `DatabaseNotMigrated`; other exceptions pass."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, StateError):
            return
        if isinstance(error, exc.DBAPIError) and getattr(error.orig, "sqlstate", None) in _NOT_MIGRATED_SQLSTATES:
            raise DatabaseNotMigrated(str(_driver_error(error) or error.orig)) from error
        lost = isinstance(error, exc.DBAPIError) and (
            error.connection_invalidated or isinstance(error.orig, exc.InterfaceError) or isinstance(_driver_error(error), _CONNECTION_LOST)
        )
        # asyncpg's own exceptions: the connection broke while it was being set up.
        lost = lost or isinstance(error, (exc.TimeoutError, exc.InterfaceError, OSError, asyncpg.InterfaceError, *_CONNECTION_LOST))
        if lost and _TOO_MANY_ARGUMENTS not in str(error):
            raise Unavailable("database", str(error)) from error
