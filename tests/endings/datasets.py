"""The endings of mutations on datasets and uploads."""

from __future__ import annotations

from typing import Any

from tests.endings import BAD_KEY, CSV, UNKNOWN, Endings, World, endings_of


@endings_of("createDataset")
async def create_dataset(world: World) -> Endings:
    yield "CreateDatasetPayload", {"name": "d", "description": "x", "targetColumn": "a", "metadata": {"a": 1}, "problemType": "REGRESSION"}
    yield "InvalidInput", {"name": "e", "ownerId": f"user_{UNKNOWN}"}
    yield "NameTaken", {"name": "D"}
    yield "InvalidInput", {"name": " "}


@endings_of("updateDataset")
async def update_dataset(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    await world.ada.create_dataset("other")
    changes = {"name": "new", "description": "x", "targetColumn": "a", "metadata": {"a": 1}, "problemType": "REGRESSION"}
    yield "UpdateDatasetPayload", {"id": dataset, **changes}
    yield "NotFound", {"id": await world.bob.create_dataset("d"), "name": "mine"}
    yield "NameTaken", {"id": dataset, "name": "OTHER"}
    yield "InvalidInput", {"id": dataset, "name": None}


@endings_of("deleteDataset")
async def delete_dataset(world: World) -> Endings:
    yield "DeleteDatasetPayload", {"id": await world.ada.create_dataset("d")}
    yield "NotFound", {"id": f"dataset_{UNKNOWN}"}
    busy = await world.ada.create_dataset("busy")
    await world.submit_job(busy)
    yield "WrongState", {"id": busy}


@endings_of("requestUpload")
async def request_upload(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    file: dict[str, Any] = {"datasetId": dataset, "filename": "d.csv", "sizeBytes": 10}
    yield "RequestUploadPayload", {**file, "sha256": "a" * 64, "contentType": "text/csv", "label": "x", "idempotencyKey": "k"}
    yield "Conflict", {**file, "filename": "other.csv", "idempotencyKey": "k"}
    yield "RequestUploadPayload", {**file, "multipart": True}
    yield "InvalidInput", {**file, "sizeBytes": 6 * 1024**3}
    yield "NotFound", {**file, "datasetId": await world.bob.create_dataset("d")}
    yield "InvalidInput", {**file, "sizeBytes": 0}
    yield "InvalidInput", {**file, "idempotencyKey": BAD_KEY}
    world.set_quota(11)
    yield "QuotaExceeded", file
    world.set_quota(None)


@endings_of("completeUpload")
async def complete_upload(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")

    async def upload(**fields: Any) -> str:
        requested = (await world.ada.request_upload(dataset, "d.csv", CSV, **fields))["upload"]
        assert (await world.ada.put(requested, CSV)).status_code == 200
        return requested["id"]

    yield "CompleteUploadPayload", {"uploadId": await upload(), "idempotencyKey": "k"}
    yield "Conflict", {"uploadId": await upload(), "idempotencyKey": "k"}
    yield "NotFound", {"uploadId": f"upload_{UNKNOWN}"}
    yield "UploadMismatch", {"uploadId": await upload(sha256="0" * 64)}
    yield "WrongState", {"uploadId": (await world.ada.request_upload(dataset, "d.csv", CSV))["upload"]["id"]}
    kept = await upload()
    yield "InvalidInput", {"uploadId": kept, "idempotencyKey": BAD_KEY}
    yield "InvalidInput", {"uploadId": kept, "parts": [{"number": 1, "etag": "x"}]}
    world.set_quota(1)
    yield "QuotaExceeded", {"uploadId": kept}
    world.set_quota(None)
    yield "CompleteUploadPayload", {"uploadId": kept}


@endings_of("abortUpload")
async def abort_upload(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    upload = (await world.ada.request_upload(dataset, "d.csv", CSV))["upload"]["id"]
    yield "AbortUploadPayload", {"uploadId": upload}
    yield "WrongState", {"uploadId": upload}
    yield "NotFound", {"uploadId": f"upload_{UNKNOWN}"}


@endings_of("ingestRows")
async def ingest_rows(world: World) -> Endings:
    rows: dict[str, Any] = {"datasetId": await world.ada.create_dataset("d"), "rows": [{"a": 1, "b": "x"}, {"a": 2}]}
    yield "IngestRowsPayload", {**rows, "label": "x", "idempotencyKey": "k"}
    yield "Conflict", {**rows, "idempotencyKey": "k"}
    yield "NotFound", {**rows, "datasetId": await world.bob.create_dataset("d")}
    yield "InvalidInput", {**rows, "rows": [1]}
    world.set_quota(1)
    yield "QuotaExceeded", rows
    world.set_quota(None)


@endings_of("generateDataset")
async def generate_dataset(world: World) -> Endings:
    data: dict[str, Any] = {"generator": "blobs", "name": "made", "parameters": {"rows": 10}}
    yield "GenerateDatasetPayload", {**data, "seed": 1, "label": "x", "idempotencyKey": "k"}
    yield "Conflict", {**data, "idempotencyKey": "k"}
    yield "NameTaken", data
    dataset = await world.ada.create_dataset("d")
    into = {"generator": "blobs", "datasetId": dataset}
    yield "GenerateDatasetPayload", into
    yield "NotFound", {**into, "datasetId": await world.bob.create_dataset("d")}
    yield "InvalidInput", {**into, "generator": "none"}
    await world.ada.request_upload(dataset, "d.csv", CSV)
    world.set_quota(1)
    yield "QuotaExceeded", into
    world.set_quota(None)
    world.set_prices({"GENERATE": 1_000_000})
    yield "InsufficientCredits", into
    world.set_prices({})


@endings_of("importDataset")
async def import_dataset(world: World) -> Endings:
    file: dict[str, Any] = {"datasetId": await world.ada.create_dataset("d"), "url": "https://nobody.invalid/d.csv"}
    yield "ImportDatasetPayload", {**file, "sha256": "a" * 64, "label": "x", "idempotencyKey": "k"}
    yield "Conflict", {**file, "idempotencyKey": "k"}
    yield "NotFound", {**file, "datasetId": await world.bob.create_dataset("d")}
    yield "InvalidInput", {**file, "url": "ftp://nobody.invalid/d.csv"}
    await world.ada.request_upload(file["datasetId"], "d.csv", CSV)
    world.set_quota(1)
    yield "QuotaExceeded", file
    world.set_quota(None)
    world.set_prices({"IMPORT": 1_000_000})
    yield "InsufficientCredits", file
    world.set_prices({})


@endings_of("createImportSchedule")
async def create_import_schedule(world: World) -> Endings:
    dataset = await world.ada.create_dataset("d")
    schedule: dict[str, Any] = {
        "datasetId": dataset,
        "url": "https://nobody.invalid/d.csv",
        "cron": "0 6 * * *",
        "timezone": "Europe/Berlin",
    }
    yield "CreateImportSchedulePayload", schedule
    yield "NotFound", {**schedule, "datasetId": await world.bob.create_dataset("d")}
    yield "InvalidInput", {**schedule, "cron": "* * * * *"}
    for _ in range(9):
        yield "CreateImportSchedulePayload", schedule
    yield "QuotaExceeded", schedule


async def _schedule(world: World) -> str:
    given = {"datasetId": await world.ada.create_dataset("d"), "url": "https://nobody.invalid/d.csv", "cron": "0 6 * * *"}
    mutation = "mutation($input: CreateImportScheduleInput!) { createImportSchedule(input: $input) {"
    return (await world.ada.one(f"{mutation} ... on CreateImportSchedulePayload {{ schedule {{ id }} }} }} }}", input=given))["schedule"][
        "id"
    ]


@endings_of("updateImportSchedule")
async def update_import_schedule(world: World) -> Endings:
    schedule = await _schedule(world)
    changes = {"url": "https://nobody.invalid/e.csv", "cron": "0 7 * * *", "timezone": "UTC", "isActive": True}
    yield "UpdateImportSchedulePayload", {"id": schedule, **changes}
    yield "NotFound", {"id": f"schedule_{UNKNOWN}", "isActive": False}
    yield "InvalidInput", {"id": schedule, "timezone": "nowhere"}


@endings_of("deleteImportSchedule")
async def delete_import_schedule(world: World) -> Endings:
    schedule = await _schedule(world)
    yield "DeleteImportSchedulePayload", {"id": schedule}
    yield "NotFound", {"id": schedule}
