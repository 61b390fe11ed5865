"""The nodes of a pipeline that run after its body, on what that has made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from db.services.jobs import NodeChange
from db.tables.jobs import JobNodeStatus
from workers.ml.steps.step import Step
from workers.runtime.attempt import Attempt
from workers.runtime.failures import BodyFailed

T = TypeVar("T")


class NodeRun(NamedTuple):
    """A node to run: its place among those of its step, its part of the job's progress, and whether no other body follows."""

    node: Mapping[str, Any]
    number: int
    span: tuple[float, float]
    is_last: bool


async def run_nodes(
    attempt: Attempt,
    definition: Mapping[str, Any],
    step: Step,
    run: Callable[[NodeRun, dict[str, Any]], Awaitable[T]],
    *,
    span: tuple[float, float],
    is_last: bool,
    kept: str,
) -> list[T]:
    """Run the nodes of a step one after another, each with the output that it fills in; return their results.

    What the body made is `kept` if a node fails for good: the node is FAILED, and says why. What another attempt may do is raised.
    """
    nodes = [node for node in definition["nodes"] if node["step"] == step.key]
    share = (span[1] - span[0]) / max(len(nodes), 1)
    made: list[T] = []
    for number, node in enumerate(nodes):
        first = span[0] + share * number
        try:
            with attempt.stage(node["key"]) as output:
                made.append(await run(NodeRun(node, number, (first, first + share), is_last and node is nodes[-1]), output))
        except BodyFailed as error:
            failure = error.failure
            if failure.retryable:
                raise
            attempt.reports.log_line(f"{failure.message} {kept}")
            described = {"code": failure.code, "message": failure.message, "retryable": False}
            attempt.reports.node(NodeChange(node["key"], JobNodeStatus.FAILED, 0, None, described))
    return made
