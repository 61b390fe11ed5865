"""Mutations of one's own progress; whoever may only read has them too."""

from typing import Annotated

import strawberry
from strawberry import ID

from db.errors import NotFound as NotFoundError
from db.queries import learning as queries
from db.services import learning
from graph.core.context import Info
from graph.core.ids import decode
from graph.core.permissions import Scope, mutation
from graph.core.problems import InvalidInput, NotFound
from graph.learning.types import Tutorial


@strawberry.input(description="The step that you have completed.")
class CompleteTutorialStepInput:
    tutorial_id: ID = strawberry.field(description="The tutorial.")
    step_key: str = strawberry.field(description="The `key` of one of its steps.")


@strawberry.input(description="The tutorial to begin again.")
class ResetTutorialInput:
    tutorial_id: ID = strawberry.field(description="The tutorial.")


@strawberry.type(description="The step counts as completed, now or since before.")
class CompleteTutorialStepPayload:
    tutorial: Tutorial = strawberry.field(description="The tutorial with your progress.")


@strawberry.type(description="None of its steps counts as completed.")
class ResetTutorialPayload:
    tutorial: Tutorial = strawberry.field(description="The tutorial, with no progress.")


CompleteTutorialStepResult = Annotated[
    CompleteTutorialStepPayload | NotFound | InvalidInput,
    strawberry.union("CompleteTutorialStepResult", description="The possible results of `completeTutorialStep`."),
]
ResetTutorialResult = Annotated[
    ResetTutorialPayload | NotFound,
    strawberry.union("ResetTutorialResult", description="The possible results of `resetTutorial`."),
]


@strawberry.type
class LearningMutations:
    @mutation(
        scope=Scope.ACCOUNT,
        description="Note that you have completed a step of a tutorial. To complete it again changes nothing, so it can be sent twice.",
    )
    async def complete_tutorial_step(
        self, info: Info, input: Annotated[CompleteTutorialStepInput, strawberry.argument(description="The tutorial and the step.")]
    ) -> CompleteTutorialStepResult:
        tutorial_id = decode("tutorial", input.tutorial_id)
        async with info.context.work() as work:
            await learning.complete_step(work, tutorial_id, input.step_key)
        return CompleteTutorialStepPayload(tutorial=await _load(info, input.tutorial_id))

    @mutation(
        scope=Scope.ACCOUNT,
        description="Begin a tutorial again: none of its steps counts as completed. What you made in them stays.",
    )
    async def reset_tutorial(
        self, info: Info, input: Annotated[ResetTutorialInput, strawberry.argument(description="The tutorial.")]
    ) -> ResetTutorialResult:
        tutorial_id = decode("tutorial", input.tutorial_id)
        async with info.context.work() as work:
            await learning.reset(work, tutorial_id)
        return ResetTutorialPayload(tutorial=await _load(info, input.tutorial_id))


async def _load(info: Info, id_: str) -> Tutorial:
    tutorial = await info.context.loaders.one(queries.by_id, Tutorial.of).load(decode("tutorial", id_))
    if tutorial is None:
        raise NotFoundError(id_)
    return tutorial
