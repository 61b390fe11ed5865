"""The tasks: each is declared beside its code, in the module of its domain, and says which kind of job it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from db.core.discovery import import_submodules
from db.tables.jobs import JobKind
from workers.runtime.attempt import Task

_TASKS: dict[JobKind, Task] = {}


def task(kind: JobKind) -> Callable[[Task], Task]:
    """Declare the function as the task that does jobs of this kind. Raise `ValueError` for a second one."""

    def register(function: Task) -> Task:
        if kind in _TASKS:
            raise ValueError(f"Two tasks do jobs of the kind {kind.name}: {_TASKS[kind].__name__} and {function.__name__}.")
        _TASKS[kind] = function
        return function

    return register


def declared_tasks() -> Mapping[JobKind, Task]:
    """Return the tasks of all modules of `workers`. A job of a kind that is missing here ends as FAILED with NOT_SUPPORTED."""
    import_submodules("workers")
    return _TASKS
