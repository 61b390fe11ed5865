"""Plans, their cache, and their execution in place of graphql-core's.

A plan depends on the document, the name of the operation, and the variables of `@skip` and `@include`. It holds nothing of a viewer: rights
are applied when it runs, by the scopes of root fields and by the policies in every statement. It runs only for viewers who have the scopes
that it needs below its roots.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphql import (
    DirectiveNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    Node,
    OperationDefinitionNode,
    OperationType,
    VariableNode,
    Visitor,
    is_object_type,
    visit,
)
from graphql.execution.values import VariableValues

from graph.execution.document_cache import DocumentCache
from graph.execution.planning.builder import PlanBuilder, Unplannable
from graph.execution.planning.failures import FieldShape, NonNullViolation, settle, settle_object
from graph.execution.planning.fields import Run
from graph.execution.planning.leaves import INSTANCES, compile_plain_writer
from graph.execution.planning.selections import Level, ObjectSelection, run_step
from graph.execution.planning.steps import ResolverStep
from graph.execution.planning.trace import ExecutionTrace
from graph.execution.scopes import Needs, operation_needs

MAX_VARIANTS = 16  # plans of one operation, by the variables of its conditions
_CONDITIONS = frozenset({"skip", "include"})


class Plan:
    """The steps of one operation."""

    def __init__(self, root: ObjectSelection, needs: Needs, *, is_serial: bool) -> None:
        self.needs = needs
        self._root = root
        self._is_serial = is_serial

    def event_writer(self) -> EventWriter | None:
        """What writes the result of an event at once, if it has nothing but leaf fields of the event's object; they depend on it alone."""
        steps = self._root.steps
        if len(steps) != 1 or len(self._root.leaves) != 1 or not isinstance(steps[0], ResolverStep):
            return None
        field = steps[0].field
        selection = field.selection(field.named_type) if is_object_type(field.named_type) else None
        if not isinstance(selection, ObjectSelection) or selection.steps or not field.is_single:
            return None
        definition: Any = selection.type.extensions.get("strawberry-definition")
        return EventWriter(field.name, definition.origin, compile_plain_writer(selection.leaves, INSTANCES))

    async def execute(self, executor: Any, trace: ExecutionTrace | None = None) -> ExecutionResult:
        """Return the result of an execution; `executor` is graphql-core's, built for it."""
        run = Run(executor, trace)
        errors: list[GraphQLError] = []
        try:
            data = await (self._execute_serially(run, errors) if self._is_serial else self._execute(run, errors))
        except NonNullViolation as violation:
            data = None
            errors.append(violation.error)
        return ExecutionResult(data, errors or None)

    async def _execute(self, run: Run, errors: list[GraphQLError]) -> dict[str, Any]:
        (data,) = await self._root.complete_instances(run, [run.executor.root_value])
        return settle_object(data, self._root.shape, [], errors) if run.has_failed else data

    async def _execute_serially(self, run: Run, errors: list[GraphQLError]) -> dict[str, Any]:
        """Run the mutations one after the other; none is run after one that made the whole result null."""
        steps = {step.field.name: step for step in self._root.steps}
        data: dict[str, Any] = {}
        for name, leaf in self._root.leaves.items():
            step = steps.get(name)
            if step is None:
                data[name] = leaf
                continue
            run.forget_rows()
            await run_step(run, step, Level([run.executor.root_value], INSTANCES, [data]))
            if run.has_failed:
                field = FieldShape(step.field.type, step.shape)
                data[name] = settle(data[name], field.type, field.shape, [name], errors)
                run.has_failed = False
        return data


class EventWriter:
    """Writes the data of a subscription's result from the object of an event."""

    __slots__ = ("_name", "_type", "_write")

    def __init__(self, name: str, type_: type, write: Callable[[Sequence[Any]], list[dict[str, Any]]]) -> None:
        self._name = name
        self._type = type_
        self._write = write

    def write(self, source: object) -> dict[str, Any] | None:
        """Return the data; None where it has an error, which an execution has to make."""
        if type(source) is not self._type:
            return None
        try:
            return {self._name: self._write((source,))[0]}
        except Exception:  # noqa: BLE001 - what it is will be seen by the execution
            return None


class _Operation:
    """What is known of an operation of a document: the variables that decide its conditions, and its plans by their values."""

    __slots__ = ("conditions", "plans")

    def __init__(self, conditions: tuple[str, ...]) -> None:
        self.conditions = conditions
        self.plans: OrderedDict[tuple[Any, ...], Plan | Unplannable] = OrderedDict()


class Planner:
    """Finds or makes the plans for one schema."""

    def __init__(self) -> None:
        self.is_enabled = True  # only tests that compare both ways of execution change it
        self._operations: DocumentCache[_Operation] = DocumentCache()

    def clear(self) -> None:
        """Forget all plans."""
        self._operations = DocumentCache()

    def plan(self, executor: Any) -> Plan:
        """Return the plan of the operation that an executor is built for. Raises `Unplannable`."""
        if not self.is_enabled:
            raise Unplannable("off")
        if executor.middleware_manager is not None and executor.middleware_manager.middlewares:
            raise Unplannable("middleware")
        if not executor.error_propagation:
            raise Unplannable("directive")
        operation: OperationDefinitionNode = executor.operation
        text = None if operation.loc is None else operation.loc.source.body
        name = None if operation.name is None else operation.name.value
        known = self._operations.get(text, name)
        if known is None:
            if any(fragment.variable_signatures for fragment in executor.fragments.values()):
                raise Unplannable("directive")
            known = _Operation(_condition_variables(operation, executor.fragments))
            self._operations.put(text, known, name)
        coerced: Mapping[str, Any] = executor.variable_values.coerced
        values = tuple([coerced.get(variable) for variable in known.conditions]) if known.conditions else ()
        plan = known.plans.get(values)
        if plan is None:
            plan = known.plans[values] = self._make(executor, known.conditions, values)
            if len(known.plans) > MAX_VARIANTS:
                known.plans.popitem(last=False)
        if isinstance(plan, Unplannable):
            raise Unplannable(plan.reason)
        return plan

    def needs(self, executor: Any) -> Needs:
        """Return the scopes that the operation needs, planned or not."""
        try:
            return self.plan(executor).needs
        except Unplannable:
            return operation_needs(executor, executor.variable_values.coerced)

    def _make(self, executor: Any, conditions: tuple[str, ...], values: tuple[Any, ...]) -> Plan | Unplannable:
        operation: OperationDefinitionNode = executor.operation
        root_type = executor.schema.get_root_type(operation.operation)
        if root_type is None or any(value is None for value in values):
            return Unplannable("condition")  # graphql-core has the error for it
        sources = executor.variable_values.sources
        variables = VariableValues(
            {name: sources[name] for name in conditions if name in sources}, dict(zip(conditions, values, strict=True))
        )
        try:
            root = PlanBuilder(executor.schema, operation, executor.fragments, variables).root(root_type)
        except Unplannable as reason:
            return reason
        needs = operation_needs(executor, variables.coerced)
        return Plan(root, needs, is_serial=operation.operation is OperationType.MUTATION)


class _ConditionVisitor(Visitor):
    """Collects the variables in `@skip` and `@include`."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: dict[str, None] = {}

    def enter_directive(self, node: DirectiveNode, *_rest: Any) -> None:
        if node.name.value in _CONDITIONS:
            for argument in node.arguments or ():
                if isinstance(argument.value, VariableNode):
                    self.variables[argument.value.name.value] = None


def _condition_variables(operation: OperationDefinitionNode, fragments: Mapping[str, Any]) -> tuple[str, ...]:
    """The variables of conditions in the operation and in all fragments of its document."""
    visitor = _ConditionVisitor()
    definitions: list[FragmentDefinitionNode] = [fragment.definition for fragment in fragments.values()]
    nodes: list[Node] = [operation, *definitions]
    for node in nodes:
        visit(node, visitor)
    declared = {definition.variable.name.value for definition in operation.variable_definitions or ()}
    return tuple(name for name in visitor.variables if name in declared)
