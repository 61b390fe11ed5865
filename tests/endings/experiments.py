"""The endings of mutations on experiments."""

from __future__ import annotations

from tests.endings import UNKNOWN, Endings, World, endings_of


@endings_of("createExperiment")
async def create_experiment(world: World) -> Endings:
    yield "CreateExperimentPayload", {"name": "e", "description": "x", "notes": "y"}
    yield "InvalidInput", {"name": "f", "ownerId": f"user_{UNKNOWN}"}
    yield "NameTaken", {"name": "E"}
    yield "InvalidInput", {"name": " "}
