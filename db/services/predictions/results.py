"""What a prediction leaves: its result, and on a dataset version the version with the predictions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from db.core.work import Work
from db.services import outputs, versions
from db.services.outputs import Result, StoredFile, WrittenOutput


async def add_dataset(work: Work, job: Row[Any], result: Result, processed: StoredFile, profile_file: StoredFile | None) -> WrittenOutput:
    """Add the version with the predictions, and store what the job answers of it; `result` is a `DatasetPredictions`."""
    output = await versions.add_derived(work, job, result, processed, profile_file)
    await outputs.add_result(work, job.id, result["answer"])
    return output
