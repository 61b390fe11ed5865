"""The endings of mutations on tutorials."""

from __future__ import annotations

from tests.endings import UNKNOWN, Endings, World, endings_of

_COMPLETE = """mutation($id: ID!) { completeTutorialStep(input: {tutorialId: $id, stepKey: "generate"}) {
  ... on CompleteTutorialStepPayload { tutorial { id } } } }"""


async def _tutorial(world: World) -> str:
    return (await world.ada.one('{ tutorial(slug: "first-model") { id } }'))["id"]


@endings_of("completeTutorialStep")
async def complete_tutorial_step(world: World) -> Endings:
    tutorial = await _tutorial(world)
    yield "CompleteTutorialStepPayload", {"tutorialId": tutorial, "stepKey": "generate"}
    yield "NotFound", {"tutorialId": f"tutorial_{UNKNOWN}", "stepKey": "generate"}
    yield "InvalidInput", {"tutorialId": tutorial, "stepKey": "nothing"}


@endings_of("resetTutorial")
async def reset_tutorial(world: World) -> Endings:
    tutorial = await _tutorial(world)
    await world.ada.one(_COMPLETE, id=tutorial)
    yield "ResetTutorialPayload", {"tutorialId": tutorial}
    yield "NotFound", {"tutorialId": f"tutorial_{UNKNOWN}"}
