"""PREDICT: apply a model version to the rows of a request, or to a dataset version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Row, select

from db.core.work import Work
from db.queries.artifacts import MODEL, PROCESSED, SIGNATURE
from db.services import outputs, predictions
from db.services.jobs import target_of
from db.tables import DatasetVersion, JobDocument
from db.tables.jobs import JobKind
from workers.datasets import PARQUET, store_profile
from workers.fetching import download_model, download_table, load_model_files, load_version
from workers.items import download_items, reads_contents
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects

ROWS_BODY = "workers.ml.prediction.body:predict_rows"
DATASET_BODY = "workers.ml.prediction.body:predict_dataset"


@task(JobKind.PREDICT)
async def predict(attempt: Attempt) -> Effects:
    """Predict. A killed attempt leaves nothing, and the next one starts over: predicting takes little longer than reading."""
    attempt.progress(0, "Download")
    model = await download_model(attempt, await load_model_files(attempt, attempt.job.model_version_id, (MODEL, SIGNATURE)))
    if attempt.job.dataset_version_id is None:
        return await _predict_rows(attempt, model)
    return await _predict_dataset(attempt, model)


async def _predict_rows(attempt: Attempt, model: dict[str, str]) -> Effects:
    (document,) = await attempt.database.rows(select(JobDocument.input).where(JobDocument.job_id == attempt.job.id))
    path = attempt.folder / "rows.json"
    path.write_bytes(orjson.dumps(document.input))
    answer = await attempt.run_body(ROWS_BODY, {**model, "rows": str(path)}, span=(5, 99))

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        await outputs.add_result(work, settled.id, answer)
        return ()

    return effects


async def _predict_dataset(attempt: Attempt, model: dict[str, str]) -> Effects:
    job = attempt.job
    data = await load_version(attempt, job.dataset_version_id, DatasetVersion.columns)
    source, folder = await download_table(attempt, data), attempt.folder / "out"
    folder.mkdir()
    items = await download_items(attempt, job.dataset_version_id) if reads_contents(model["signature"]) else None
    spec = {**model, "parquet": str(source), "columns": data.columns, "folder": str(folder), "items": items}
    result = await attempt.run_body(DATASET_BODY, spec, span=(5, 95))
    attempt.progress(95, "Store")
    prefix = f"datasets/{job.owner_id}/{target_of(job)}/{attempt.key}"
    processed = await attempt.upload(Path(result["parquet"]), f"{prefix}/processed/{attempt.key}", PROCESSED, "data.parquet", PARQUET)
    profile = await store_profile(attempt, prefix, result["profile"], "profile.json")

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        return (await predictions.add_dataset(work, settled, result, processed, profile)).duplicate_keys

    return effects
