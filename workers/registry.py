"""The task of each kind of job. A kind without one ends as FAILED with NOT_SUPPORTED."""

from __future__ import annotations

from db.tables.jobs import JobKind
from workers import datasets, pipelines
from workers.runtime.attempt import Task

TASKS: dict[JobKind, Task] = {
    JobKind.INGEST: datasets.ingest,
    JobKind.TRAIN: pipelines.train,
    JobKind.PROCESS: pipelines.process,
}
