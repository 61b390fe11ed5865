"""Tutorials with their steps, as the viewer has completed them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import strawberry

from db.queries import learning
from graph.core.costs import costs
from graph.core.ids import Node
from graph.core.permissions import Scope
from graph.core.scalars import JSON


@strawberry.type(description="A step of a tutorial: something to read, and mostly an operation to run.")
class TutorialStep:
    key: str = strawberry.field(
        description="Its name within the tutorial, by which `completeTutorialStep` takes it; later releases keep it."
    )
    title: str = strawberry.field(description="What is done, in a few words.")
    body: str = strawberry.field(description="What to know and to do, in Markdown.")
    document: str | None = strawberry.field(
        description="A GraphQL document with one operation, to be run with `variables`; null where there is only something to read or to do elsewhere."
    )
    variables: JSON | None = strawberry.field(
        description="A value for each variable of `document`; null if it has none. A text `$.<key>.<path>` stands for a value of the result of an earlier step:"
        " `$.create.createDataset.dataset.id` is `createDataset.dataset.id` in the `data` of the operation of the step `create`, or of its last event where"
        " that is a subscription; a number in the path is an index."
    )
    is_completed: bool = strawberry.field(description="Whether you have completed it, by `completeTutorialStep`.")


@strawberry.type(description="How far you are with a tutorial. Only the steps that it has today count.")
class TutorialProgress:
    completed_steps: int = strawberry.field(description="How many of its steps you have completed.")
    total_steps: int = strawberry.field(description="How many steps it has.")
    started_at: datetime | None = strawberry.field(description="When you completed the first of them; null if you have not.")
    completed_at: datetime | None = strawberry.field(
        description="When you completed the last of them; null as long as one is missing, also one that a new release has added."
    )


@strawberry.type(description="A guided tour of operations that you run yourself. Tutorials ship with the product; progress is yours alone.")
class Tutorial(Node, prefix="tutorial", found_by=learning.by_id, scope=Scope.READ):
    step_rows: strawberry.Private[Sequence[Mapping[str, Any]]]
    completed: strawberry.Private[Mapping[str, str] | None]
    slug: str = strawberry.field(description="Its name in addresses and in `tutorial(slug:)`, such as `first-model`; it never changes.")
    title: str = strawberry.field(description="What it is called.")
    summary: str = strawberry.field(description="What one has learned and made at its end.")
    level: str = strawberry.field(description="What it expects of a reader: `beginner`, `intermediate` or `advanced`.")
    minutes: int = strawberry.field(description="How long it takes, with the waiting for its jobs.")

    @strawberry.field(description="Its steps, in the order in which they are done.", metadata=costs(entries=1))
    def steps(self) -> list[TutorialStep]:
        completed = self.completed or {}
        return [TutorialStep(**step, is_completed=step["key"] in completed) for step in self.step_rows]

    @strawberry.field(description="How far you are with it; admins too see only their own progress.")
    def progress(self) -> TutorialProgress:
        completed = self.completed or {}
        times = [datetime.fromisoformat(completed[step["key"]]) for step in self.step_rows if step["key"] in completed]
        is_complete = len(times) == len(self.step_rows)
        return TutorialProgress(
            completed_steps=len(times),
            total_steps=len(self.step_rows),
            started_at=min(times, default=None),
            completed_at=max(times, default=None) if is_complete else None,
        )
