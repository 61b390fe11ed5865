"""What a prediction leaves: its result, and on a dataset version the version with the predictions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.work import Work
from db.services import versions
from db.services.outputs import Result, StoredFile, WrittenOutput
from db.tables import JobDocument


async def add_result(work: Work, job_id: UUID, result: Result) -> None:
    """Store what the job answers."""
    insertion = upsert(JobDocument).values(job_id=job_id, result=result)
    await work.run(insertion.on_conflict_do_update(index_elements=[JobDocument.job_id], set_={"result": insertion.excluded.result}))


async def add_dataset(work: Work, job: Row[Any], result: Result, processed: StoredFile, profile_file: StoredFile | None) -> WrittenOutput:
    """Add the version with the predictions, and store what the job answers of it; `result` is a `DatasetPredictions`."""
    output = await versions.add_derived(work, job, result, processed, profile_file)
    await add_result(work, job.id, result["answer"])
    return output
