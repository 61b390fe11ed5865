"""The endings of mutations on exports."""

from __future__ import annotations

from sqlalchemy import insert, select

from db.core.viewer import SYSTEM
from db.tables import Export, Job, Model, ModelVersion
from db.tables.exports import ExportFormat
from tests.endings import CSV, UNKNOWN, Endings, World, endings_of, key_of


@endings_of("createExport")
async def create_export(world: World) -> Endings:
    version = await world.ada.ingest("d", CSV)
    yield "CreateExportPayload", {"datasetVersionId": version, "format": "CSV", "idempotencyKey": "k"}
    yield "Conflict", {"datasetVersionId": version, "format": "JSON", "idempotencyKey": "k"}
    yield "NotFound", {"datasetVersionId": f"version_{UNKNOWN}", "format": "CSV"}
    yield "InvalidInput", {"datasetVersionId": version, "format": "CSV", "options": {"sheet": 1}}
    async with world.database.work(SYSTEM) as work:
        owner = key_of((await world.ada.one("{ viewer { id } }"))["id"])
        model = await work.scalar(insert(Model).values(owner_id=owner, name="m").returning(Model.id))
        values = {"model_id": model, "number": 1, "algorithm": "HistGradientBoostingClassifier", "framework": "scikit-learn"}
        model_version = await work.scalar(insert(ModelVersion).values(values).returning(ModelVersion.id))
    yield "Unsupported", {"modelVersionId": f"mversion_{model_version.hex}", "format": "ONNX"}
    waiting = (await world.ada.request_upload(await world.ada.create_dataset("e"), "e.csv", CSV))["upload"]["version"]["id"]
    yield "WrongState", {"datasetVersionId": waiting, "format": "CSV"}
    world.set_quota(1)
    yield "QuotaExceeded", {"datasetVersionId": version, "format": "CSV"}
    world.set_quota(None)
    world.set_prices({"EXPORT": 10})
    yield "InsufficientCredits", {"datasetVersionId": version, "format": "CSV"}


@endings_of("deleteExport")
async def delete_export(world: World) -> Endings:
    version = await world.ada.ingest("d", CSV)
    yield "DeleteExportPayload", {"id": (await world.ada.export(version, "CSV"))["id"]}
    yield "NotFound", {"id": f"export_{UNKNOWN}"}
    job = key_of(await world.submit_job())
    async with world.database.work(SYSTEM) as work:
        owner = await work.scalar(select(Job.owner_id).where(Job.id == job))
        values = {"owner_id": owner, "job_id": job, "dataset_version_id": key_of(version), "format": ExportFormat.CSV}
        waiting = await work.scalar(insert(Export).values(values).returning(Export.id))
    yield "WrongState", {"id": f"export_{waiting.hex}"}


@endings_of("exportTable")
async def export_table(world: World) -> Endings:
    yield "ExportTablePayload", {"target": "RUNS", "format": "CSV", "idempotencyKey": "k"}
    yield "Conflict", {"target": "RUNS", "format": "JSONL", "idempotencyKey": "k"}
    yield "NotFound", {"target": "TRIALS", "format": "CSV", "parentId": f"study_{UNKNOWN}"}
    yield "InvalidInput", {"target": "RUNS", "format": "CSV", "columns": ["no such column"]}
    await world.ada.ingest("d", CSV)
    world.set_quota(1)
    yield "QuotaExceeded", {"target": "RUNS", "format": "CSV"}
    world.set_quota(None)
    world.set_prices({"EXPORT_LIST": 10})
    yield "InsufficientCredits", {"target": "RUNS", "format": "CSV"}
