"""The words of the jobs, published. The graph takes them from here, so that none is used before it is described."""

from __future__ import annotations

from db.queries.scheduling import WaitReason
from db.tables.jobs import JobEventType, JobKind, JobNodeStatus
from db.tables.jobstates import JobStatus
from graph.core.enums import describe

__all__ = ["JobEventType", "JobKind", "JobNodeStatus", "JobStatus", "WaitReason"]

describe(
    JobKind,
    "What a job does.",
    INGEST="Read an uploaded file, type its columns, check and profile it, and write it as Parquet.",
    PROFILE="Profile a version anew.",
    DEDUCE_SCHEMA="Propose types and meanings for the columns of a version.",
    PROCESS="Run a pipeline that does not train, and write a new version.",
    TRAIN="Run a pipeline that trains, and make a model version.",
    STUDY="Search hyperparameters or architectures, with a job for each trial.",
    TRIAL="One training of a study.",
    EXPLAIN="Work out what a model's answers rest on.",
    EXPORT="Write data or a model in another form.",
    IMPORT="Bring data or a model over from another system.",
    GENERATE="Make up data.",
    PURGE="Remove for good what was deleted.",
)
describe(
    JobStatus,
    "Where a job stands.",
    PENDING="Written, and not yet sent to a worker; also while it waits to be tried again.",
    QUEUED="Sent: the next free worker of its queue takes it.",
    RUNNING="A worker runs it.",
    CANCELLING="It was asked to stop and is being stopped; it never completes from here.",
    COMPLETED="It ended well, and what it made is there.",
    FAILED="It ended badly; `error` says why.",
    CANCELLED="It was stopped; nothing was made.",
)
describe(
    WaitReason,
    "Why a job has not started yet.",
    NO_WORKER="No worker that is alive serves its queue; start one, or wait for one.",
    QUEUE="Others stand before it, or a worker is just about to take it.",
    CONCURRENCY="As many jobs of its owner, or of its queue, run or stand before it as may run at once; more workers would not help.",
    CREDITS="Its owner has too few credits. Not told at present: what a job costs is held when it is asked for, or it is refused.",
    RETRY_BACKOFF="It failed in a way that may pass, and is tried again after a pause.",
)
describe(
    JobNodeStatus,
    "Where a part of a job stands.",
    PENDING="Its turn has not come.",
    RUNNING="It is being worked on.",
    COMPLETED="It ended well.",
    FAILED="It ended badly; `error` says why.",
    SKIPPED="It was not needed.",
    CANCELLED="The job was stopped before or while it ran.",
)
describe(
    JobEventType,
    "What an event says of its job.",
    CREATED="It was asked for.",
    QUEUED="It was sent to the workers of its queue.",
    STARTED="A worker took it: a new attempt begins.",
    STEP_STARTED="A part of it began; `step` names it.",
    PROGRESS="It came further; `progress` says how far, and `data` may hold `secondsLeft`, how long it will probably still take.",
    STEP_COMPLETED="A part of it ended.",
    LOG="It printed or logged something; `message` holds the lines, or the first and the last of many. `JobAttempt.log` has them all.",
    METRIC="Metric points were recorded; `runMetrics` brings them.",
    RETRYING="The attempt ended without a result and another one follows.",
    CANCEL_REQUESTED="It was asked to stop while it ran.",
    COMPLETED="It ended well; no event follows.",
    FAILED="It ended badly; no event follows.",
    CANCELLED="It was stopped; no event follows.",
)
