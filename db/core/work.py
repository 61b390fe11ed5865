"""The two ways to use PostgreSQL: a short read without a transaction, and a unit of work that commits as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any, Protocol, Self
from uuid import UUID

import asyncpg
import orjson
import structlog
from sqlalchemy import Executable, Row, exc
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db.core.connection_watchdog import CheckedOutConnection, ConnectionWatchdog
from db.core.viewer import Viewer
from db.errors import StateError, Unavailable
from db.settings import StateSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DISPOSE_TIMEOUT = 3.0  # seconds that disconnecting may take
CLOSE_TIMEOUT = 2.0  # of a connection that is given up

_CLOSING_TASKS: set[asyncio.Task[None]] = set()  # kept, for the loop itself does not keep them


@dataclass(frozen=True, slots=True)
class Notice:
    """A job has an event with this sequence. `ring` names the queue whose workers are to look, where there is work for them."""

    job_id: UUID
    sequence: int
    dispatch: str | None = None


class NoticePublisher(Protocol):
    """Carries notices, and word of users whose rights have changed, to whoever listens; losing one costs time, never truth."""

    async def publish(self, notices: Sequence[Notice], revalidated: Sequence[UUID] = ()) -> None: ...


@dataclass(slots=True)
class Work:
    """A transaction on behalf of a viewer. Services take it first; what must leave only after the commit is left with it."""

    connection: AsyncConnection
    viewer: Viewer
    notices: dict[UUID, Notice] = field(default_factory=dict[UUID, Notice])
    revalidated: set[UUID] = field(default_factory=set[UUID])
    before_commit_actions: list[tuple[UUID, Callable[[], Awaitable[None]]]] = field(
        default_factory=list[tuple[UUID, Callable[[], Awaitable[None]]]]
    )

    async def all(self, statement: Executable, parameters: Any = None) -> Sequence[Row[Any]]:
        return (await self.connection.execute(statement, parameters)).all()

    async def one(self, statement: Executable, parameters: Any = None) -> Row[Any]:
        return (await self.connection.execute(statement, parameters)).one()

    async def first(self, statement: Executable, parameters: Any = None) -> Row[Any] | None:
        return (await self.connection.execute(statement, parameters)).first()

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return (await self.connection.execute(statement, parameters)).scalar()

    async def run(self, statement: Executable, parameters: Any = None) -> int:
        """Execute for the effect; the number of rows changed."""
        return (await self.connection.execute(statement, parameters)).rowcount

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """What is done in the block is undone by itself when it raises, with what it left for after the commit; the rest of the work stands."""
        saved = {entry.name: copy(getattr(self, entry.name)) for entry in fields(self) if entry.name not in {"connection", "viewer"}}
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            for name, value in saved.items():
                setattr(self, name, value)
            raise

    def notify(self, notice: Notice) -> None:
        """Announce a job's event once this is committed; of several for one job the last is sent, with any ring among them."""
        pending = self.notices.get(notice.job_id)
        if pending is not None:
            notice = Notice(notice.job_id, max(notice.sequence, pending.sequence), notice.dispatch or pending.dispatch)
        self.notices[notice.job_id] = notice

    def revalidate_sessions(self, user_id: UUID) -> None:
        """Have this user's open connections look again at who they are, once this is committed: a key or a right was taken away."""
        self.revalidated.add(user_id)

    def before_commit(self, user_id: UUID, action: Callable[[], Awaitable[None]]) -> None:
        """Have this done to a user's row when all else of the work is done; should it raise, nothing of the work is written.

        Everything that a user does at once wants that row. Locked last, and of several users in the order of their ids, it is held for
        the time of a commit, and nobody who holds one waits for a lock of any other kind.
        """
        self.before_commit_actions.append((user_id, action))

    async def run_before_commit(self) -> None:
        """Do what was left to the end."""
        for _, action in sorted(self.before_commit_actions, key=itemgetter(0)):
            await action()


class Database:
    """PostgreSQL, as one process uses it."""

    def __init__(
        self, make_engine: Callable[[int], AsyncEngine], publisher: NoticePublisher | None, *, pool_size: int, read_concurrency: int
    ) -> None:
        self._make_engine = make_engine
        self.engine = engine = make_engine(pool_size)
        self.publisher = publisher
        self._reads = asyncio.Semaphore(read_concurrency)
        self._watchdog = ConnectionWatchdog(engine)
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        settings: StateSettings,
        publisher: NoticePublisher | None = None,
        *,
        statement_timeout: float | None = None,
        idle_timeout: float | None = None,
    ) -> AsyncGenerator[Self]:
        """Connect on first use, disconnect at the end. The timeouts are in seconds; 0 means none; by default the settings'."""
        timeout = settings.statement_timeout if statement_timeout is None else statement_timeout
        idle = settings.idle_transaction_timeout if idle_timeout is None else idle_timeout

        def make_engine(connections: int) -> AsyncEngine:
            return _engine(settings.database_url, connections, timeout, idle)

        database = cls(make_engine, publisher, pool_size=settings.database_pool_size, read_concurrency=settings.database_read_concurrency)
        try:
            yield database
        finally:
            await _dispose(database.engine)

    @asynccontextmanager
    async def dedicated_pool(self, connections: int) -> AsyncGenerator[Database]:
        """The same PostgreSQL over connections that nobody else is lent: for what must never queue up behind other reads."""
        database = Database(self._make_engine, self.publisher, pool_size=connections, read_concurrency=connections)
        try:
            yield database
        finally:
            await _dispose(database.engine)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """A connection for one short read, each statement its own. At most so many at once; never await anything else while holding it."""
        with _translate_errors():
            async with CheckedOutConnection(self._watchdog, self._autocommit, self._reads) as connection:
                yield connection

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncConnection]:
        """A connection to keep for a while, each statement its own; for what lasts as long as a session does. Not for reads."""
        with _translate_errors():
            async with self._autocommit.connect() as connection:
                yield connection

    async def rows(self, statement: Executable, parameters: Any = None) -> Sequence[Row[Any]]:
        """One statement's rows, read in one short look."""
        async with self.read() as connection:
            return (await connection.execute(statement, parameters)).all()

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]) -> None:
        """Rows into a table by COPY, committed at once. Its driver is asked directly, which knows no table of ours: give database values."""
        with _translate_errors():
            async with CheckedOutConnection(self._watchdog, self._autocommit) as connection:
                raw: Any = await connection.get_raw_connection()
                try:
                    await raw.driver_connection.copy_records_to_table(table, columns=list(columns), records=records)
                except BaseException as error:
                    # The pool did not see what happened, and must not lend a connection that is broken or in the middle of a copy.
                    await connection.invalidate()
                    if isinstance(error, asyncpg.InterfaceError):
                        raise Unavailable("database", str(error)) from error
                    raise

    @asynccontextmanager
    async def work(self, viewer: Viewer) -> AsyncGenerator[Work]:
        """A unit of work: all of it is committed when the block ends, none of it when it raises. Notices leave afterwards."""
        with _translate_errors():
            async with (
                CheckedOutConnection(self._watchdog, self.engine) as connection,
                connection.begin(),
            ):  # the commit too may never be answered
                work = Work(connection, viewer)
                yield work
                await work.run_before_commit()
        await self._publish(work)

    async def _publish(self, work: Work) -> None:
        notices = tuple(work.notices.values())
        if (notices or work.revalidated) and self.publisher is not None:
            try:
                await self.publisher.publish(notices, tuple(work.revalidated))
            except Exception:  # the commit stands whatever becomes of its announcement; the dispatcher and the feed repair
                log.warning("notices_not_sent", count=len(notices), exc_info=True)


def _engine(url: str, connections: int, statement_timeout: float, idle_timeout: float) -> AsyncEngine:
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1).replace("postgres://", "postgresql+asyncpg://", 1),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=2.5,
        pool_pre_ping=False,
        hide_parameters=True,  # they are people's data, and an error that is logged would show them
        json_deserializer=orjson.loads,  # JSONB writes 1e20 as digits; read as an integer of that length, no answer could carry it
        connect_args={
            "timeout": 2.5,
            "server_settings": {
                "application_name": "trellis",
                "statement_timeout": str(int(statement_timeout * 1000)),
                # A process that is frozen in the middle of a transaction must not hold its locks until it thaws.
                "idle_in_transaction_session_timeout": str(int(idle_timeout * 1000)),
                # The driver prepares a statement and executes it in two messages. Between them a transaction does not count as resting and
                # no statement runs, so neither timeout ends it: a process that is frozen or cut off just there would hold its locks for ever.
                "transaction_timeout": str(int((statement_timeout + idle_timeout) * 1000) if statement_timeout and idle_timeout else 0),
                "timezone": "UTC",
                # A host that vanished without a word must not hold its locks for the two hours that are usual.
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        },
    )
    engine.dialect.do_terminate = _terminate_in_background
    return engine


def _terminate_in_background(dbapi_connection: Any) -> None:
    """Take leave of a connection beside everything else, what it still runs cancelled if the server can be told.

    Where the network is silent each leave takes two seconds, one after the other, and whoever waits for a new connection would wait for them.
    """
    connection = dbapi_connection.driver_connection
    try:
        closing = asyncio.get_running_loop().create_task(_close_or_terminate(connection), name="leave of a connection")
    except RuntimeError:  # nobody is left to do it
        connection.terminate()
    else:
        _CLOSING_TASKS.add(closing)
        closing.add_done_callback(_CLOSING_TASKS.discard)


async def _close_or_terminate(connection: Any) -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT)
    except Exception:  # noqa: BLE001 - it is broken in whatever way, or the server does not answer: then nobody can be told
        connection.terminate()


async def _dispose(engine: AsyncEngine) -> None:
    with suppress(TimeoutError):  # a server that does not say goodbye in turn must not keep the process
        async with asyncio.timeout(DISPOSE_TIMEOUT):
            await engine.dispose()


_TOO_MANY_ARGUMENTS = (
    "number of query arguments"  # the driver's own refusal, of the class of its lost connections; the fault is the statement's
)


# What Postgres says while it starts, recovers or stops, or when it has no connection left to give.
_CONNECTION_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
)

# A transaction broken off that may pass the next time: deadlock, serialization, a statement or a lock too late.
TRANSIENT_SQLSTATES = frozenset({"40P01", "40001", "57014", "55P03"})


def is_transient(error: exc.DBAPIError) -> bool:
    """Whether Postgres broke the work off for what others did at that moment: the same may pass the next time."""
    return getattr(error.orig, "sqlstate", None) in TRANSIENT_SQLSTATES


def _driver_error(error: exc.DBAPIError) -> BaseException | None:
    """What the driver raised, under the two layers that the library puts around it; it does not call it a disconnect where none was open."""
    return None if error.orig is None else error.orig.__cause__


class _translate_errors:  # noqa: N801 - reads as a statement: with _translated()
    """Turns a lost or refused connection into `Unavailable`; everything else passes."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, StateError):
            return
        lost = isinstance(error, exc.DBAPIError) and (
            error.connection_invalidated or isinstance(error.orig, exc.InterfaceError) or isinstance(_driver_error(error), _CONNECTION_LOST)
        )
        # As the driver raised it: a connection that broke while it was being set up, before anything was asked of it.
        lost = lost or isinstance(error, (exc.TimeoutError, exc.InterfaceError, OSError, asyncpg.InterfaceError, *_CONNECTION_LOST))
        if lost and _TOO_MANY_ARGUMENTS not in str(error):
            raise Unavailable("database", str(error)) from error
