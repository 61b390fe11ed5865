"""The endings of mutations on proposed schemas, and of those that profile a version again."""

from __future__ import annotations

from sqlalchemy import insert

from db.core.viewer import SYSTEM
from db.tables import DatasetVersion, SchemaProposal
from db.tables.datasets import DatasetSource, DatasetVersionStatus
from tests.endings import BAD_KEY, CSV, UNKNOWN, Endings, World, endings_of, key_of


async def ready_version(world: World, name: str) -> str:
    """A READY version of a new dataset, without the files of one."""
    dataset = key_of(await world.ada.create_dataset(name))
    values = {"dataset_id": dataset, "number": 1, "status": DatasetVersionStatus.READY, "source": DatasetSource.UPLOAD}
    async with world.database.work(SYSTEM) as work:
        version = await work.scalar(insert(DatasetVersion).values(values).returning(DatasetVersion.id))
    return f"version_{version.hex}"


async def proposed(world: World, name: str) -> str:
    """A proposal for a version of a new dataset, with one column."""
    version = await ready_version(world, name)
    dataset = key_of(await world.dataset_of(version))
    column = {"name": "a", "type": "INTEGER", "semantic_type": None, "role": "FEATURE", "nullable": False, "format": None}
    columns = [{**column, "confidence": 0.5, "reason": "It is a number.", "samples": [1]}]
    values = {"version_id": key_of(version), "dataset_id": dataset, "confidence": 0.5, "agent": "test/1", "columns": columns}
    async with world.database.work(SYSTEM) as work:
        proposal = await work.scalar(insert(SchemaProposal).values(values).returning(SchemaProposal.id))
    return f"proposal_{proposal.hex}"


async def endings_of_a_version_job(world: World, payload: str, kind: str) -> Endings:
    version = await ready_version(world, "d")
    yield payload, {"datasetVersionId": version, "idempotencyKey": "k"}
    yield "Conflict", {"datasetVersionId": await ready_version(world, "e"), "idempotencyKey": "k"}
    yield "NotFound", {"datasetVersionId": f"version_{UNKNOWN}"}
    yield "InvalidInput", {"datasetVersionId": version, "idempotencyKey": BAD_KEY}
    waiting = (await world.ada.request_upload(await world.ada.create_dataset("f"), "f.csv", CSV))["upload"]["version"]["id"]
    yield "WrongState", {"datasetVersionId": waiting}
    world.set_prices({kind: 10})
    yield "InsufficientCredits", {"datasetVersionId": version}


@endings_of("proposeSchema")
def propose_schema(world: World) -> Endings:
    return endings_of_a_version_job(world, "ProposeSchemaPayload", "DEDUCE_SCHEMA")


@endings_of("profileVersion")
def profile_version(world: World) -> Endings:
    return endings_of_a_version_job(world, "ProfileVersionPayload", "PROFILE")


@endings_of("acceptSchemaProposal")
async def accept_schema_proposal(world: World) -> Endings:
    proposal = await proposed(world, "d")
    yield "AcceptSchemaProposalPayload", {"id": proposal, "changes": {"columns": [{"name": "a", "role": "TARGET"}]}}
    yield "WrongState", {"id": proposal}
    yield "NotFound", {"id": f"proposal_{UNKNOWN}"}
    yield "InvalidInput", {"id": await proposed(world, "e"), "changes": {"columns": [{"name": "z", "role": "TARGET"}]}}


@endings_of("rejectSchemaProposal")
async def reject_schema_proposal(world: World) -> Endings:
    proposal = await proposed(world, "d")
    yield "RejectSchemaProposalPayload", {"id": proposal, "reason": "It has another target."}
    yield "WrongState", {"id": proposal, "reason": "No."}
    yield "NotFound", {"id": f"proposal_{UNKNOWN}", "reason": "No."}
    yield "InvalidInput", {"id": await proposed(world, "e"), "reason": " "}


@endings_of("compareRows")
async def compare_rows(world: World) -> Endings:
    version = await world.ada.ingest("d", CSV)
    pair = {"from": version, "to": version}
    yield "CompareRowsPayload", {**pair, "key": ["a"], "idempotencyKey": "k"}
    yield "Conflict", {**pair, "key": ["b"], "idempotencyKey": "k"}
    yield "NotFound", {"from": version, "to": f"version_{UNKNOWN}", "key": ["a"]}
    yield "InvalidInput", {**pair, "key": ["c"]}
    waiting = (await world.ada.request_upload(await world.dataset_of(version), "d.csv", CSV))["upload"]["version"]["id"]
    yield "WrongState", {"from": version, "to": waiting, "key": ["a"]}
    world.set_prices({"COMPARE": 10})
    yield "InsufficientCredits", {**pair, "key": ["a"]}
