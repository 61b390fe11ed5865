"""The trace of one execution: which steps ran, what each read, and how long it took. Only on request, see `OperationContext.shows_plan`."""

from __future__ import annotations

from collections.abc import Coroutine, Generator, Sequence
from contextvars import ContextVar
from time import perf_counter
from typing import Any, Protocol


class TracedField(Protocol):
    """What is shown of a field."""

    name: str
    field_name: str
    parent_type: Any


class TracedStep(Protocol):
    """What is shown of a step."""

    @property
    def field(self) -> TracedField: ...

    @property
    def reads(self) -> str: ...

    @property
    def written_steps(self) -> Sequence[TracedStep]:
        """The steps below it that PostgreSQL can write together with its values."""
        ...


class StepTrace:
    """What one run of a step did for the objects of its level, without the steps below it. Seconds of its own are those in which it ran
    in this process, so they contain no time in which it waited.

    `is_in_statement`: it did not run, because PostgreSQL wrote its values in the statement of the step above. For how many objects is known
    only right below that one.
    """

    __slots__ = ("database_seconds", "is_in_statement", "objects", "own_seconds", "rows", "seconds", "statements", "step", "steps")

    def __init__(self, step: TracedStep | None, objects: int | None, *, is_in_statement: bool = False) -> None:
        self.step = step
        self.is_in_statement = is_in_statement
        self.objects = objects
        self.steps: list[StepTrace] = []
        self.statements = self.rows = 0
        self.seconds = self.own_seconds = self.database_seconds = 0.0

    def report(self) -> dict[str, Any]:
        assert self.step is not None
        field = self.step.field
        return {
            "name": field.name,
            "edge": f"{field.parent_type}.{field.field_name}",
            "reads": f"{self.step.reads}, in the statement above" if self.is_in_statement else self.step.reads,
            "objects": self.objects,
            "statements": self.statements,
            "rows": self.rows,
            "milliseconds": _milliseconds(self.seconds),
            "databaseMilliseconds": _milliseconds(self.database_seconds),
            "ownMilliseconds": _milliseconds(self.own_seconds),
            "steps": [step.report() for step in self.steps],
        }


class ExecutionTrace:
    """The traces of all steps of an execution; of one without a plan only the sums, and the reason why it has none."""

    def __init__(self) -> None:
        self.unplanned_reason: str | None = None
        self._root = StepTrace(None, 1)
        self._running: StepTrace | None = None
        self._since = 0.0

    async def execute(self, execution: Coroutine[Any, Any, Any]) -> Any:
        """Await the execution of the whole plan."""
        return await self._measure(self._root, execution)

    async def run(self, step: TracedStep, objects: int, running: Coroutine[Any, Any, None]) -> None:
        """Await the run of a step for a level of `objects`, below the step that the present task runs."""
        trace = StepTrace(step, objects)
        _current.get(self._root).steps.append(trace)
        await self._measure(trace, running)

    def add_statement(self, seconds: float, rows: int) -> None:
        """Count a statement that the present task sent."""
        trace = _current.get(self._root)
        trace.statements += 1
        trace.rows += rows
        trace.database_seconds += seconds

    def add_written(self, steps: Sequence[TracedStep], objects: int) -> None:
        """Show the steps whose values PostgreSQL wrote for `objects` in the statement of the step that the present task runs."""
        self._add_written(_current.get(self._root), steps, objects)

    def _add_written(self, above: StepTrace, steps: Sequence[TracedStep], objects: int | None) -> None:
        for step in steps:
            trace = StepTrace(step, objects, is_in_statement=True)
            above.steps.append(trace)
            self._add_written(trace, step.written_steps, None)

    def report(self) -> dict[str, Any]:
        """The trace as it is shown to clients. Each time is in milliseconds."""
        steps = [self._root]
        for step in steps:
            steps += step.steps
        return {
            **({} if self.unplanned_reason is None else {"unplanned": self.unplanned_reason}),
            "statements": sum(step.statements for step in steps),
            "rows": sum(step.rows for step in steps),
            "milliseconds": _milliseconds(self._root.seconds),
            "databaseMilliseconds": _milliseconds(sum(step.database_seconds for step in steps)),
            "ownMilliseconds": _milliseconds(sum(step.own_seconds for step in steps)),
            "steps": [step.report() for step in self._root.steps],
        }

    async def _measure(self, trace: StepTrace, execution: Coroutine[Any, Any, Any]) -> Any:
        token = _current.set(trace)
        started_at = perf_counter()
        try:
            return await _Measured(self, trace, execution)
        finally:
            trace.seconds = perf_counter() - started_at
            _current.reset(token)

    def enter(self, trace: StepTrace) -> StepTrace | None:
        """From now on this one runs. Return the one that ran until now."""
        outer = self._running
        self.leave(trace)
        return outer

    def leave(self, outer: StepTrace | None) -> None:
        """From now on `outer` runs again, or nothing."""
        now = perf_counter()
        if self._running is not None:
            self._running.own_seconds += now - self._since
        self._running, self._since = outer, now


# The step that the present task runs; the loads that it starts inherit it.
_current: ContextVar[StepTrace] = ContextVar("step")


class _Measured:
    """Awaits a coroutine and measures the times in which it runs."""

    __slots__ = ("_coroutine", "_execution", "_trace")

    def __init__(self, execution: ExecutionTrace, trace: StepTrace, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._execution = execution
        self._trace = trace
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, None, Any]:
        error: BaseException | None = None
        while True:
            outer = self._execution.enter(self._trace)
            try:
                awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as stop:
                return stop.value
            finally:
                self._execution.leave(outer)
            try:
                yield awaited
                error = None
            except BaseException as raised:  # noqa: BLE001 - a cancellation too is the coroutine's to handle
                error = raised


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
