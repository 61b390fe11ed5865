"""Steps that run resolvers, or complete attributes that are no leaves."""

from abc import ABC, abstractmethod
from typing import Any

from graph.execution.planning.completion import complete, resolve_awaitables
from graph.execution.planning.failures import Failure, Shape
from graph.execution.planning.fields import Field, Run
from graph.execution.planning.selections import Level


class _InstanceStep(ABC):
    """Base of the steps that need instances: `_values` returns a value, an awaitable or a failure for each object of a level."""

    attribute = None
    needs_instances = True
    is_text = False
    written_steps = ()
    reads: str

    def __init__(self, field: Field) -> None:
        self.field = field

    @property
    def shape(self) -> Shape | None:
        return self.field.shape

    async def run(self, run: Run, level: Level) -> None:
        field = self.field
        values = await resolve_awaitables(run, field, self._values(run, level))
        level.fill(field.name, await complete(run, field, field.type, values))

    @abstractmethod
    def _values(self, run: Run, level: Level) -> list[Any]: ...


class ResolverStep(_InstanceStep):
    """Runs the resolver of a field for each object of a level, and awaits what they return together."""

    reads = "resolver"

    def _values(self, run: Run, level: Level) -> list[Any]:
        field = self.field
        try:
            arguments = field.core_arguments(run)
        except Exception as error:  # noqa: BLE001 - it becomes the field's error, masked where it was not meant for clients
            return [run.fail(error, field) for _ in level.sources]
        info, resolve = field.info(run), field.definition.resolve or run.executor.field_resolver
        values: list[Any] = []
        for source in level.sources:
            try:
                values.append(resolve(source, info, **arguments))
            except Exception as error:  # noqa: BLE001 - as above, for each object
                values.append(run.fail(error, field))
        return values


class AttributeStep(_InstanceStep):
    """Completes an attribute that holds objects or a list."""

    reads = "attribute"

    def _values(self, run: Run, level: Level) -> list[Any]:
        return [self._get(run, level, source) for source in level.sources]

    def _get(self, run: Run, level: Level, source: Any) -> Any | Failure:
        try:
            return level.access.get(source, self.field.strawberry_field.python_name)
        except Exception as error:  # noqa: BLE001 - it becomes the field's error
            return run.fail(error, self.field)
