"""Two ways to use PostgreSQL: a short read in autocommit mode, and a unit of work that commits as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import dataclass, field, fields
from operator import itemgetter
from typing import Any, Protocol, Self
from uuid import UUID

import asyncpg
import orjson
import structlog
from sqlalchemy import Executable, Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db.core.audit import INSERT_EVENTS, Origin, current_origin, event, ref
from db.core.connection_watchdog import CheckedOutConnection, CheckedOutDriverConnection, ConnectionWatchdog
from db.core.database_errors import translate_errors
from db.core.kept_connections import KeptConnections
from db.core.prepared import PreparedSelect, Record, execute
from db.core.shared_reads import SharedReads
from db.core.viewer import Viewer
from db.errors import Unavailable
from db.settings import StateSettings

log: structlog.stdlib.BoundLogger = structlog.get_logger()

DISPOSE_TIMEOUT = 3.0  # seconds for closing the pool
CLOSE_TIMEOUT = 2.0  # seconds for closing one connection

_CONSTANT = frozenset({"connection", "viewer", "origin"})  # attributes of a unit of work that a savepoint need not restore
_CLOSING_TASKS: set[asyncio.Task[None]] = set()  # the event loop holds only weak references to tasks


@dataclass(frozen=True, slots=True)
class Notice:
    """A job has an event with this sequence. `dispatch` addresses workers: a queue with work, or see `db.services.jobs.transitions`."""

    job_id: UUID
    sequence: int
    dispatch: str | None = None


AfterCommit = Callable[["Database"], Awaitable[None]]


class NoticePublisher(Protocol):
    """Publish notices, and the ids of users whose sessions are to be revalidated. A lost notice delays a stream and loses nothing."""

    async def publish(self, notices: Sequence[Notice], revalidated: Sequence[UUID] = ()) -> None: ...


@dataclass(slots=True)
class Work:
    """A unit of work on behalf of a viewer, passed to services first. It collects what is to be published after the commit."""

    connection: AsyncConnection
    viewer: Viewer
    origin: Origin | None = None
    audit_events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    notices: dict[UUID, Notice] = field(default_factory=dict[UUID, Notice])
    revalidated: set[UUID] = field(default_factory=set[UUID])
    before_commit_actions: list[tuple[UUID, Callable[[], Awaitable[None]]]] = field(
        default_factory=list[tuple[UUID, Callable[[], Awaitable[None]]]]
    )
    after_commit_actions: dict[UUID, AfterCommit] = field(default_factory=dict[UUID, "AfterCommit"])

    async def all(self, statement: Executable, parameters: Any = None) -> Sequence[Row[Any]]:
        return (await self.connection.execute(statement, parameters)).all()

    async def one(self, statement: Executable, parameters: Any = None) -> Row[Any]:
        return (await self.connection.execute(statement, parameters)).one()

    async def first(self, statement: Executable, parameters: Any = None) -> Row[Any] | None:
        return (await self.connection.execute(statement, parameters)).first()

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        return (await self.connection.execute(statement, parameters)).scalar()

    async def run(self, statement: Executable, parameters: Any = None) -> int:
        """Execute a statement; return the number of changed rows."""
        return (await self.connection.execute(statement, parameters)).rowcount

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]) -> None:
        """COPY records into a table, see `Database.copy`. A statement must have been executed before, which begins the transaction."""
        assert self.connection.in_transaction()
        await _copy(self.connection, table, columns, records)

    @asynccontextmanager
    async def savepoint(self) -> AsyncGenerator[None]:
        """A savepoint: if the block raises, its statements and what it scheduled for after the commit are undone; the unit of work goes on."""
        saved = {entry.name: copy(getattr(self, entry.name)) for entry in fields(self) if entry.name not in _CONSTANT}
        try:
            async with self.connection.begin_nested():
                yield
        except BaseException:
            for name, value in saved.items():
                setattr(self, name, value)
            raise

    def record(
        self,
        action: str,
        kind: str,
        subject_id: UUID,
        owner_id: UUID | None,
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
        *,
        actor: Viewer | None = None,
    ) -> None:
        """Add an event to the audit, see `db.core.audit`; it is written before the commit.

        `action` is the name of the mutation, or what it would be, in lower_snake. `kind` is the prefix of the subject's ids; `owner_id` is
        whose it is, who may see the event. `before` and `after` have the columns that changed. `actor` is who acts, unless the viewer does.

        Raises `Forbidden` for a change of what a team owns by who may only see it. A change of the team itself depends on other rights.
        """
        if owner_id is not None and kind != "user":
            (actor or self.viewer).require_write_in(owner_id)
        if self.origin is not None:
            subject = ref(kind, subject_id)
            self.audit_events.append(event(self.origin, actor or self.viewer, action, subject, owner_id, before, after))

    def notify(self, notice: Notice) -> None:
        """Publish a job's event after the commit. Of several notices for one job, the last sequence and any dispatch are kept."""
        pending = self.notices.get(notice.job_id)
        if pending is not None:
            notice = Notice(notice.job_id, max(notice.sequence, pending.sequence), notice.dispatch or pending.dispatch)
        self.notices[notice.job_id] = notice

    def revalidate_sessions(self, user_id: UUID) -> None:
        """Revalidate this user's open connections after the commit, because a key or a right was revoked."""
        self.revalidated.add(user_id)

    def before_commit(self, user_id: UUID, action: Callable[[], Awaitable[None]]) -> None:
        """Run `action`, which locks a user's row, just before the commit; if it raises, the whole unit of work is rolled back.

        All concurrent work of a user contends for that row. Locked last, in the order of the users' ids, it is held only during the commit,
        and no transaction that holds one waits for another kind of lock.
        """
        self.before_commit_actions.append((user_id, action))

    def after_commit(self, subject_id: UUID, action: AfterCommit) -> None:
        """Run `action`, once for a subject, when the commit is done. It may not be run, as after a crash, and its errors are logged: something else
        has to make up for it."""
        self.after_commit_actions[subject_id] = action

    async def run_before_commit(self) -> None:
        """Write the events of the audit, then run the callbacks of `before_commit`."""
        if self.audit_events:
            await self.run(INSERT_EVENTS, {"events": orjson.dumps(self.audit_events, default=str).decode()})
        for _, action in sorted(self.before_commit_actions, key=itemgetter(0)):
            await action()


class Database:
    """The PostgreSQL connections of one process."""

    def __init__(
        self, make_engine: Callable[[int], AsyncEngine], publisher: NoticePublisher | None, *, pool_size: int, read_concurrency: int
    ) -> None:
        self._make_engine = make_engine
        self.engine = engine = make_engine(pool_size)
        self.publisher = publisher
        self.revalidation_listeners: list[
            Callable[[Collection[UUID]], None]
        ] = []  # called in this process, before the notice reaches others
        self._reads = asyncio.Semaphore(read_concurrency)
        self._watchdog = ConnectionWatchdog(engine)
        self.kept = KeptConnections(engine.sync_engine.pool)
        self.shared_reads = SharedReads()
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
        """Connect on first use, disconnect at the end. Timeouts are in seconds, 0 disables one; default: the settings."""
        timeout = settings.statement_timeout if statement_timeout is None else statement_timeout
        idle = settings.idle_transaction_timeout if idle_timeout is None else idle_timeout

        def make_engine(connections: int) -> AsyncEngine:
            return _engine(settings.database_url, connections, timeout, idle)

        database = cls(make_engine, publisher, pool_size=settings.database_pool_size, read_concurrency=settings.database_read_concurrency)
        try:
            yield database
        finally:
            await _dispose(database)

    @asynccontextmanager
    async def dedicated_pool(self, connections: int) -> AsyncGenerator[Database]:
        """A separate pool for what must never wait behind other reads."""
        database = Database(self._make_engine, self.publisher, pool_size=connections, read_concurrency=connections)
        try:
            yield database
        finally:
            await _dispose(database)

    @asynccontextmanager
    async def read(self) -> AsyncGenerator[AsyncConnection]:
        """Check out a connection for one short read in autocommit mode, under the read limit. Await nothing else while holding it."""
        with translate_errors():
            async with CheckedOutConnection(self._watchdog, self.kept, self._autocommit, self._reads) as connection:
                yield connection

    @asynccontextmanager
    async def session(self) -> AsyncGenerator[AsyncConnection]:
        """Check out a connection in autocommit mode for a longer time, such as for session-level locks. Not for reads."""
        with translate_errors():
            connection = await self.kept.check_out(self._autocommit.connect().start)
            try:
                yield connection
            finally:
                await connection.__aexit__(None, None, None)

    async def rows(self, statement: Executable, parameters: Any = None) -> Sequence[Row[Any]]:
        """Return the rows of one statement."""
        async with self.read() as connection:
            return (await connection.execute(statement, parameters)).all()

    async def records(self, select: PreparedSelect, values: Sequence[Any]) -> list[Record]:
        """Return the records of a prepared select."""
        with translate_errors():  # as in `read`, without the cost of its generator
            async with CheckedOutDriverConnection(self._watchdog, self.kept, self.engine, self._reads) as connection:
                return await execute(connection, self.engine.sync_engine, select, values)

    async def write(self, statement: PreparedSelect, values: Sequence[Any]) -> list[Record]:
        """Execute a statement that changes rows and returns some, as a transaction of its own; return these records.

        A unit of work around one statement takes as long as the statement itself. It may wait for locks, so it does not count among the reads.
        """
        with translate_errors():
            async with CheckedOutDriverConnection(self._watchdog, self.kept, self.engine) as connection:
                return await execute(connection, self.engine.sync_engine, statement, values)

    async def copy(self, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]) -> None:
        """COPY records into a table, committed at once. The driver is used directly and knows no column types of ours: pass database values."""
        with translate_errors():
            async with CheckedOutConnection(self._watchdog, self.kept, self._autocommit) as connection:
                await _copy(connection, table, columns, records)

    @asynccontextmanager
    async def work(self, viewer: Viewer) -> AsyncGenerator[Work]:
        """A unit of work: committed when the block ends, rolled back when it raises. Notices are published after the commit."""
        with translate_errors():
            async with (
                CheckedOutConnection(self._watchdog, self.kept, self.engine) as connection,
                connection.begin(),
            ):  # the COMMIT too may stay unanswered
                work = Work(connection, viewer, current_origin())
                yield work
                await work.run_before_commit()
        if work.revalidated:
            for listener in self.revalidation_listeners:
                listener(work.revalidated)
        await self.publish(tuple(work.notices.values()), tuple(work.revalidated))
        for subject_id, action in work.after_commit_actions.items():
            try:
                await action(self)
            except Exception:  # the commit stands
                log.warning("after_commit_failed", subject=str(subject_id), exc_info=True)

    async def publish(self, notices: Sequence[Notice], revalidated: Sequence[UUID] = ()) -> None:
        """Publish what a commit has to tell."""
        if (notices or revalidated) and self.publisher is not None:
            try:
                await self.publisher.publish(notices, revalidated)
            except Exception:  # the commit stands even if its notices are lost; dispatcher and feed reconcile
                log.warning("notices_not_published", count=len(notices), exc_info=True)


async def _copy(connection: AsyncConnection, table: str, columns: Sequence[str], records: Sequence[tuple[Any, ...]]) -> None:
    raw: Any = await connection.get_raw_connection()
    try:
        await raw.driver_connection.copy_records_to_table(table, columns=list(columns), records=records)
    except BaseException as error:
        # The pool did not see the error and must not hand out a connection that is broken or in the middle of a COPY.
        await connection.invalidate()
        if isinstance(error, asyncpg.InterfaceError):
            raise Unavailable("database", str(error)) from error
        raise


def _engine(url: str, connections: int, statement_timeout: float, idle_timeout: float) -> AsyncEngine:
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://", 1).replace("postgres://", "postgresql+asyncpg://", 1),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=2.5,
        pool_pre_ping=False,
        hide_parameters=True,  # parameters are users' data and must not reach logs
        json_deserializer=orjson.loads,  # JSONB writes 1e20 as digits, which json.loads reads as an integer that no JSON writer takes
        connect_args={
            "timeout": 2.5,
            "server_settings": {
                "application_name": "trellis",
                "statement_timeout": str(int(statement_timeout * 1000)),
                # A process that is frozen in a transaction must not hold its locks until it continues.
                "idle_in_transaction_session_timeout": str(int(idle_timeout * 1000)),
                # The driver prepares and executes a statement in two messages. Between them the session is neither idle nor running a statement, so
                # neither timeout applies: a process that is frozen or cut off there would hold its locks for ever.
                "transaction_timeout": str(int((statement_timeout + idle_timeout) * 1000) if statement_timeout and idle_timeout else 0),
                "timezone": "UTC",
                "pg_trgm.word_similarity_threshold": "0.35",  # of a search: by default, a word with two letters exchanged finds nothing
                "jit": "off",  # compiling a statement that writes a tree of pages takes longer than executing it
                # A host that vanished must not hold its locks for the usual two hours.
                "tcp_keepalives_idle": "10",
                "tcp_keepalives_interval": "5",
                "tcp_keepalives_count": "3",
            },
        },
    )
    engine.dialect.do_terminate = _terminate_in_background
    return engine


def _terminate_in_background(dbapi_connection: Any) -> None:
    """Close a connection in a task of its own, and cancel its running statement if the server can be reached.

    On a silent network each close takes two seconds; closed one after the other, they would delay whoever waits for a new connection.
    """
    connection = dbapi_connection.driver_connection
    try:
        closing = asyncio.get_running_loop().create_task(_close_or_terminate(connection), name="close connection")
    except RuntimeError:  # no event loop is running
        connection.terminate()
    else:
        _CLOSING_TASKS.add(closing)
        closing.add_done_callback(_CLOSING_TASKS.discard)


async def _close_or_terminate(connection: Any) -> None:
    try:
        await connection.close(timeout=CLOSE_TIMEOUT)
    except Exception:  # noqa: BLE001 - a broken connection or a silent server may raise anything
        connection.terminate()


async def _dispose(database: Database) -> None:
    with suppress(TimeoutError):  # a server that does not answer must not delay the exit
        async with asyncio.timeout(DISPOSE_TIMEOUT):
            await database.kept.close()
            await database.engine.dispose()
