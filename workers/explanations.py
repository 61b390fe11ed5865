"""EXPLAIN: explain what a model version predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Row, func, select

from db.core.work import Work
from db.queries.artifacts import MODEL, RESULTS, SIGNATURE
from db.services import explanations
from db.tables import DatasetItem, Explanation, JobDocument
from db.tables.jobs import JobKind
from workers.fetching import download_model, download_table, load_model_files, load_version
from workers.items import download_items, reads_contents
from workers.registry import task
from workers.runtime.attempt import Attempt, Effects

BODY = "workers.ml.explaining.body:explain"
FETCH, EXPLAIN, STORE = "fetch", "explain", "store"
STAGES = {FETCH: "Fetch", EXPLAIN: "Explain", STORE: "Store"}  # with their titles


@task(JobKind.EXPLAIN)
async def explain(attempt: Attempt) -> Effects:
    """Explain in a body, and store the plots; the settle adds them to the explanation. A killed attempt leaves nothing, and the next one starts over."""
    job = attempt.job
    await attempt.begin_nodes([(key, key) for key in STAGES], STAGES)
    folder = attempt.folder / "out"
    folder.mkdir()
    attempt.progress(0, "Fetch")
    with attempt.stage(FETCH) as output:
        files = await load_model_files(
            attempt, job.model_version_id, (MODEL, SIGNATURE, RESULTS)
        )  # the last has the rows it was measured on
        spec = {**await download_model(attempt, files), **await _download_rows(attempt)}
        output["files"] = len([path for path in attempt.folder.iterdir() if path.is_file()])
    options = {name: job.parameters[name] for name in ("method", "maxRows", "features", "classLabel", "seed")}
    with attempt.stage(EXPLAIN) as output:
        result = await attempt.run_body(BODY, {**spec, "options": options, "folder": str(folder)}, span=(5, 95))
        output["rows"] = result["rows"]
    attempt.progress(95, "Store")
    prefix = f"models/{job.owner_id}/{job.id}/{attempt.key}/artifacts"
    with attempt.stage(STORE) as output:
        files = await attempt.upload_all(
            [(Path(each["path"]), each["role"], each["filename"], each["content_type"]) for each in result["files"]], prefix
        )
        output["files"] = len(files)

    async def effects(work: Work, settled: Row[Any]) -> Sequence[str]:
        return (await explanations.complete(work, settled, result, files)).duplicate_keys

    return effects


async def _download_rows(attempt: Attempt) -> dict[str, Any]:
    """Download the rows that the job names: those of the request, of a version, or of an item; nothing for the rows that the model was measured on."""
    job = attempt.job
    if job.dataset_version_id is None:
        documents = await attempt.database.rows(select(JobDocument.input).where(JobDocument.job_id == job.id))
        if not documents:
            return {}
        path = attempt.folder / "rows.json"
        path.write_bytes(orjson.dumps(documents[0].input))
        return {"request": str(path)}
    path = await download_table(attempt, await load_version(attempt, job.dataset_version_id))
    spec: dict[str, Any] = {"parquet": str(path), "row": await _row_of_item(attempt)}
    if reads_contents(str(attempt.folder / "signature")):
        spec["items"] = await download_items(attempt, job.dataset_version_id)
    return spec


async def _row_of_item(attempt: Attempt) -> int | None:
    """The number of the explained item's row in the table of its version; None if the job explains no item."""
    item = select(Explanation.item_id).where(Explanation.job_id == attempt.job.id).scalar_subquery()
    before = select(func.count()).where(
        DatasetItem.version_id == attempt.job.dataset_version_id, DatasetItem.info.is_not(None), DatasetItem.id < item
    )
    (row,) = await attempt.database.rows(select(item.label("item"), before.scalar_subquery().label("number")))
    return None if row.item is None else row.number
