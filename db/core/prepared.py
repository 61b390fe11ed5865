"""Selects that are built and compiled once and then executed by the driver, with plain records as their result.

Building a page's statement with SQLAlchemy takes longer than PostgreSQL needs to run it, and a `Row` costs more than the record that it
wraps. A prepared select is shared by all viewers with the same rights: the viewer's id and accounts are parameters. Viewers who are in a
team have other rights than those who are in none, whichever the team.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final, NoReturn, TypeAlias, cast
from uuid import UUID, uuid4

import asyncpg
import orjson
from sqlalchemy import BigInteger, Boolean, Column, DateTime, Engine, Float, Integer, PoolProxiedConnection, Row, Text, Uuid, exc
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.types import TypeDecorator
from sqlalchemy.util import greenlet_spawn

from db.core.base import EnumText, FiniteDouble, finite_or_none
from db.core.constants_in_text import Constants, with_constants
from db.core.row_text import Encoding
from db.core.sql import Rows
from db.core.viewer import ApiScope, UserRole, Viewer

MAX_SELECTS = 1_000  # kept by the process
USES_BEFORE_PLAN = 2  # of a select for values, by one connection
MAX_STATEMENTS = 100  # prepared on one connection, each some ten kilobytes of its server process

Record: TypeAlias = Sequence[Any]  # a record of the driver: values by position

_DIALECT: Any = asyncpg_dialect.dialect(json_deserializer=orjson.loads)  # pyright: ignore[reportUnknownMemberType] - untyped in SQLAlchemy

_FLOAT_OID = 701  # PostgreSQL's type of double precision

# They stand for the viewer's id, key and team while a statement is built, and are replaced when it runs.
_ANY_VIEWER: Final = uuid4()
_ANY_KEY: Final = uuid4()
_ANY_TEAM: Final = uuid4()
_ANY_TEAMS: Final = ((_ANY_TEAM, UserRole.VIEWER),)
_SUBSTITUTES: Final[Mapping[UUID | tuple[UUID, ...], str]] = {
    _ANY_VIEWER: "id",
    _ANY_KEY: "key_id",
    (_ANY_VIEWER, _ANY_TEAM): "accounts",
}
_UNREPLACED: Final = tuple(form for id_ in (_ANY_VIEWER, _ANY_TEAM) for form in (str(id_), id_.hex))
_SCOPES: Final = frozenset({ApiScope.ADMIN})  # on which statements depend


@dataclass(frozen=True, slots=True)
class RecordColumn:
    """How the driver's values of a selected column are read. None is None in every column.

    `kind` is their exact Python type where it is known; `members` has the values for the stored ones of an enum. Otherwise `process` makes
    the value, unless it is None. `encoding` is how PostgreSQL writes them, if it can.
    """

    kind: type | None = None
    encoding: Encoding | None = None
    members: Mapping[str, Any] | None = None
    process: Callable[[Any], Any] | None = None

    def read(self, value: Any) -> Any:
        """Return the value that a `Row` would have."""
        return value if value is None or self.process is None else self.process(value)


def record_columns(statement: Rows) -> Mapping[str, RecordColumn]:
    """Describe the selected columns by their names."""
    return {column.key: _record_column(column) for column in statement.selected_columns if column.key is not None}


def _record_column(column: Any) -> RecordColumn:
    type_: Any = column.type
    if isinstance(type_, FiniteDouble):
        return RecordColumn(encoding=Encoding.FINITE, process=finite_or_none)
    if isinstance(type_, EnumText):
        members = {member.value: member for member in type_.enum}
        return RecordColumn(members=members, process=type_.enum)
    process = type_.dialect_impl(_DIALECT).result_processor(_DIALECT, _FLOAT_OID if isinstance(type_, Float) else None)
    if process is not None or isinstance(type_, TypeDecorator):
        return RecordColumn(process=process)
    if not isinstance(getattr(column, "element", column), Column):
        return RecordColumn()  # the type of an expression is a guess
    return next((described for sql_type, described in _COLUMNS if isinstance(type_, sql_type)), RecordColumn())


# By the type of the column; the first that fits. A BigInteger is an Integer too.
_COLUMNS: Final[tuple[tuple[Any, RecordColumn], ...]] = (
    (Text, RecordColumn(str, Encoding.TEXT)),
    (Boolean, RecordColumn(bool, Encoding.BOOLEAN)),
    (BigInteger, RecordColumn(None, Encoding.INTEGER)),
    (Integer, RecordColumn(int, Encoding.INTEGER)),
    (DateTime, RecordColumn(datetime, Encoding.TIME)),
    (Float, RecordColumn(None, Encoding.FLOAT)),
    (Uuid, RecordColumn(None, Encoding.HEX)),
)


class RowMaker:
    """Makes rows of records with these columns, as the same statement executed by SQLAlchemy would return them."""

    def __init__(self, columns: Mapping[str, RecordColumn]) -> None:
        self.names = tuple(columns)
        self._metadata: Any = SimpleResultMetaData(self.names)
        self._processors = [column.process and column.read for column in columns.values()]

    def __call__(self, record: Record) -> Row[Any]:
        """Make a row of the first values of a record."""
        make: Any = Row
        index = self._metadata._key_to_index  # noqa: SLF001 - what SQLAlchemy's own results pass
        return make(self._metadata, self._processors, index, tuple(record[: len(self.names)]))


def pick_columns(statement: Rows, names: Sequence[str]) -> list[Any]:
    """The selected columns of these names, in this order."""
    by_name = {column.key: column for column in statement.selected_columns}
    return [by_name[name] for name in names]


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSelect:
    """The text of a select, and for each of its parameters the name of an argument, the viewer's attribute, or the value itself.

    `computed` has the positions of parameters whose values are computed anew each time, such as settings. `for_values`: PostgreSQL plans each
    execution for its values. Otherwise it may keep one plan for all. `count_rows` counts the rows that its records stand for. `constants`: the
    same select for values, with its own values written into the text, so that a plan for them can be kept.
    """

    text: str
    parameters: tuple[tuple[str | None, str | None, Any], ...]
    computed: tuple[tuple[int, Callable[[], Any]], ...] = ()
    for_values: bool = False
    count_rows: Callable[[Sequence[Record]], int] = len
    constants: Constants | None = None

    def values(self, viewer: Viewer, arguments: Mapping[str, Any]) -> list[Any]:
        """The parameters in the order of the text."""
        values = [
            arguments[argument] if argument is not None else value if attribute is None else getattr(viewer, attribute)
            for argument, attribute, value in self.parameters
        ]
        for position, compute in self.computed:
            values[position] = compute()
        return values


@lru_cache(maxsize=MAX_SELECTS)
def _rights(viewer: Viewer) -> Viewer:
    """The viewer as far as statements depend on them. Making it takes longer than finding it, and each statement asks for it."""
    teams = _ANY_TEAMS if viewer.teams and not viewer.sees_all else ()
    return replace(viewer, id=_ANY_VIEWER, key_id=_ANY_KEY, scopes=viewer.scopes & _SCOPES, teams=teams)


_UNKNOWN: Final = object()


class PreparedSelects:
    """A cache of prepared selects. A key stands for one way to build a statement; the viewer's rights are a part of it."""

    def __init__(self, limit: int = MAX_SELECTS) -> None:
        self._limit = limit
        self._selects: OrderedDict[Hashable, PreparedSelect | None] = OrderedDict()

    def get(
        self,
        key: Hashable,
        viewer: Viewer,
        build: Callable[[Viewer], Rows],
        arguments: frozenset[str],
        *,
        for_values: bool = False,
        count_rows: Callable[[Sequence[Record]], int] = len,
    ) -> PreparedSelect:
        """Return the select for this key and the rights of the viewer. `arguments` are the names of its parameters.

        A statement that uses the viewer's id for anything but a parameter is prepared for this viewer alone.
        """

        def prepare(viewer: Viewer, *, is_shared: bool) -> PreparedSelect | None:
            select = _prepare(build(viewer), arguments, is_shared=is_shared)
            constants = (
                with_constants(select.text, select.parameters) if select is not None and for_values and not select.computed else None
            )
            return select and replace(select, for_values=for_values, count_rows=count_rows, constants=constants)

        rights = _rights(viewer)
        select = self._find((key, rights), lambda: prepare(rights, is_shared=True))
        return select or cast("PreparedSelect", self._find((key, viewer), lambda: prepare(viewer, is_shared=False)))

    def clear(self) -> None:
        """Forget all of them."""
        self._selects.clear()

    def _find(self, key: Hashable, make: Callable[[], PreparedSelect | None]) -> PreparedSelect | None:
        select = self._selects.get(key, _UNKNOWN)
        if select is not _UNKNOWN:
            self._selects.move_to_end(key)
            return cast("PreparedSelect | None", select)
        select = self._selects[key] = make()
        if len(self._selects) > self._limit:
            self._selects.popitem(last=False)
        return select


def _prepare(statement: Rows, arguments: frozenset[str], *, is_shared: bool) -> PreparedSelect | None:
    """Compile a statement; None if it is to be shared and the viewer's id is in it as anything but a parameter."""
    compiled: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    parameters: list[tuple[str | None, str | None, Any]] = []
    computed: list[tuple[int, Callable[[], Any]]] = []
    for position, name in enumerate(compiled.positiontup or ()):
        if name in arguments:
            parameters.append((name, None, None))
            continue
        process = compiled._bind_processors.get(name)  # noqa: SLF001 - SQLAlchemy applies them only while it executes
        if compiled.binds[name].callable is not None:
            parameters.append((None, None, None))
            computed.append((position, _computation(compiled.binds[name].callable, process)))
            continue
        value: Any = compiled.params[name]
        attribute = _SUBSTITUTES.get(value) if is_shared and type(value) in {UUID, tuple} else None
        parameters.append((None, attribute, None if attribute is not None else value if process is None else process(value)))
    fixed_values = repr([value for _, _, value in parameters])
    if is_shared and any(form in text for form in _UNREPLACED for text in (compiled.string, fixed_values)):
        return None
    return PreparedSelect(compiled.string, tuple(parameters), tuple(computed))


def _computation(compute: Callable[[], Any], process: Callable[[Any], Any] | None) -> Callable[[], Any]:
    return compute if process is None else lambda: process(compute())


SELECTS = PreparedSelects()


async def execute(connection: PoolProxiedConnection, engine: Engine, select: PreparedSelect, values: Sequence[Any]) -> list[Record]:
    """Run a select on a connection that nothing else uses meanwhile. Raises SQLAlchemy's errors, as its own execution does.

    The listeners of the engine, which count and trace statements, are notified.
    """
    driver_connection: Any = connection.driver_connection
    events: Any = engine.dispatch if engine._has_events else None  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - what its own execution asks
    context = SimpleNamespace(rowcount=0)
    if events is not None:
        for listener in events.before_cursor_execute:
            listener(None, None, select.text, values, context, False)  # noqa: FBT003 - the arguments of the event
    try:
        try:
            records = await _fetch(connection.info, driver_connection, select, values)
        except (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError, asyncpg.InvalidSQLStatementNameError):
            connection.info.pop(_STATEMENTS, None)  # a migration changed what the statement reads
            await driver_connection.reload_schema_state()
            records = await _fetch(connection.info, driver_connection, select, values)
    except BaseException as error:
        adapted_connection, is_lost = connection.dbapi_connection, driver_connection.is_closed()
        if is_lost or not isinstance(error, asyncpg.PostgresError):
            await greenlet_spawn(connection.invalidate, error)  # broken, or in the middle of a statement
        if isinstance(error, Exception):
            _raise_as_sqlalchemy_does(error, adapted_connection, select.text, is_lost=is_lost)
        raise
    if events is not None:
        context.rowcount = select.count_rows(records)
        for listener in events.after_cursor_execute:
            listener(None, None, select.text, values, context, False)  # noqa: FBT003 - the arguments of the event
    return records


_STATEMENTS = "trellis_prepared_selects"
_USES = "trellis_uses_of_selects"


async def _fetch(info: dict[str, Any], driver_connection: Any, select: PreparedSelect, values: Sequence[Any]) -> list[Record]:
    if not select.for_values:
        return await (await _statement(info, driver_connection, select.text)).fetch(*values)
    constants = select.constants
    if constants is not None and _is_used_often(info, select):
        return await (await _statement(info, driver_connection, constants.text)).fetch(*[values[position] for position in constants.left])
    # PostgreSQL forgets the plan of the unnamed statement with the statement.
    return await (await driver_connection.prepare(select.text, name="")).fetch(*values)


def _is_used_often(info: dict[str, Any], select: PreparedSelect) -> bool:
    """Whether a connection has executed a select often enough for it to be worth a plan of its own. Counts this time."""
    uses: OrderedDict[PreparedSelect, int] = info.setdefault(_USES, OrderedDict[PreparedSelect, int]())
    count = uses.get(select, 0)
    if count < USES_BEFORE_PLAN:
        uses[select] = count + 1
        if len(uses) > MAX_STATEMENTS:
            uses.popitem(last=False)
    return count >= USES_BEFORE_PLAN


async def _statement(info: dict[str, Any], driver_connection: Any, text: str) -> Any:
    """The prepared statement of this connection, prepared on first use."""
    statements: OrderedDict[str, Any] = info.setdefault(_STATEMENTS, OrderedDict[str, Any]())
    statement = statements.get(text)
    if statement is None:
        statement = statements[text] = await driver_connection.prepare(text)
        if len(statements) > MAX_STATEMENTS:
            statements.popitem(last=False)  # the driver closes it on the server once nothing refers to it
    else:
        statements.move_to_end(text)
    return statement


def _raise_as_sqlalchemy_does(error: Exception, adapted_connection: Any, text: str, *, is_lost: bool) -> NoReturn:
    """Raise what SQLAlchemy would make of an error of the driver; other errors as they are."""
    base: type[Exception] = adapted_connection.dbapi.Error
    try:
        adapted_connection._handle_exception(error)  # noqa: SLF001 - where the dialect translates the driver's errors
    except base as translated:
        make_error: Any = exc.DBAPIError.instance  # pyright: ignore[reportUnknownMemberType] - untyped in SQLAlchemy
        options = {"hide_parameters": True, "connection_invalidated": is_lost, "dialect": _DIALECT}
        raise make_error(text, None, translated, base, **options) from translated
    raise error
