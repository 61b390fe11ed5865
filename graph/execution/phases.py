"""Runs the hooks of extensions around each phase of an operation.

Strawberry inspects every hook and wraps it anew for each operation, which took longer than the hooks. Here that is done once for a class.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple

from strawberry.extensions import SchemaExtension
from strawberry.extensions.runner import SchemaExtensionsRunner


class _Hook(NamedTuple):
    """A hook as a function from its extension to a context manager."""

    manage: Callable[..., Any]
    is_async: bool


@cache
def _hook(extension_type: type[SchemaExtension], name: str) -> _Hook | None:
    """The hook of an extension for a phase; None if it has none. Raises `TypeError` if it is no generator."""
    function: Any = getattr(extension_type, name)
    if function is getattr(SchemaExtension, name):
        return None
    if inspect.isasyncgenfunction(function):
        return _Hook(asynccontextmanager(function), is_async=True)
    if inspect.isgeneratorfunction(function):
        return _Hook(contextmanager(function), is_async=False)
    raise TypeError(f"{extension_type.__name__}.{name} must be a generator.")


class _Phase:
    """Enters the hooks in the order of the extensions, and leaves them in reverse."""

    __slots__ = ("_arguments", "_entered", "_extensions", "_name")

    def __init__(self, extensions: Iterable[SchemaExtension], name: str, *arguments: Any) -> None:
        self._extensions = extensions
        self._name = name
        self._arguments = arguments
        self._entered: list[tuple[Any, bool]] = []

    async def __aenter__(self) -> None:
        try:
            for extension in self._extensions:
                hook = _hook(type(extension), self._name)
                if hook is not None:
                    manager = hook.manage(extension, *self._arguments)
                    await manager.__aenter__() if hook.is_async else manager.__enter__()
                    self._entered.append((manager, hook.is_async))
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        original = error
        for manager, is_async in reversed(self._entered):
            try:
                if is_async:
                    await manager.__aexit__(kind, error, trace)
                else:
                    manager.__exit__(kind, error, trace)
            except BaseException as raised:  # noqa: BLE001 - the hooks before it have to be left too
                kind, error, trace = type(raised), raised, raised.__traceback__
        if error is not None and error is not original:
            raise error


class PhaseRunner(SchemaExtensionsRunner):
    """Strawberry's runner with hooks that are prepared once."""

    def __init__(self, execution_context: Any, extensions: Sequence[SchemaExtension]) -> None:
        super().__init__(execution_context, list(extensions))

    def operation(self) -> Any:
        return _Phase(self.extensions, "on_operation")

    def parsing(self) -> Any:
        return _Phase(self.extensions, "on_parse")

    def validation(self) -> Any:
        return _Phase(self.extensions, "on_validate")

    def executing(self) -> Any:
        return _Phase(self.extensions, "on_execute")

    def on_stream_result(self, result: Any) -> Any:
        return _Phase(self.extensions, "on_stream_result", result)
