"""The enums of jobs, published in the schema. `graph` imports them from here, so that none is used without a description."""

from __future__ import annotations

from db.queries.job_statistics import JobGrouping
from db.queries.scheduling import WaitReason
from db.tables.jobs import JobEventType, JobKind, JobNodeStatus
from db.tables.jobstates import JobStatus
from graph.core.enums import describe

__all__ = ["JobEventType", "JobGrouping", "JobKind", "JobNodeStatus", "JobStatus", "WaitReason"]

describe(
    JobKind,
    "What a job does. No job is of a kind that is not available yet.",
    INGEST="Reads an uploaded file, infers column types, validates and profiles it, and writes it as Parquet.",
    PROFILE="Profiles a version again, with the profiler of the workers' present release.",
    DEDUCE_SCHEMA="Proposes types and meanings for the columns of a version.",
    PROCESS="Runs a pipeline that does not train, and writes a new dataset version.",
    TRAIN="Runs a pipeline that trains, and creates a model version, unless it is a trial of a study.",
    STUDY="No job has this kind: a study is no job, and its trials are TRAIN jobs.",
    TRIAL="No job has this kind: the trials of studies are TRAIN jobs.",
    EXPLAIN="Explains what the predictions of a model version depend on.",
    EXPORT="Writes a version in another format, as files to download.",
    EXPORT_LIST="Writes a list, such as that of runs, under a filter as a file to download.",
    IMPORT="Fetches a file from an address, and reads it into a version as an ingest does.",
    GENERATE="Generates synthetic data, and reads it into a version as an ingest does.",
    PURGE="Permanently removes what was deleted. Not available yet.",
    PREDICT="Predicts rows with a model version: those of a request, answered in `result`, or those of a version, as a new version.",
    COMPARE="Compares the rows of two versions of a dataset by a key, answered in `result`.",
)
describe(
    JobStatus,
    "The status of a job.",
    PENDING="Stored, but not yet dispatched; also while it waits for a retry.",
    QUEUED="Dispatched: the next free worker of its queue claims it.",
    RUNNING="A worker is running it.",
    CANCELLING="Cancellation was requested and the job is being stopped. It can no longer complete.",
    COMPLETED="It succeeded, and its outputs are available.",
    FAILED="It failed; `error` says why.",
    CANCELLED="It was cancelled and has no outputs.",
)
describe(
    JobGrouping,
    "What the jobs of a group of `jobStatistics` have in common.",
    STATUS="Their current status; `status` in the group's object.",
    KIND="What they do; `kind`.",
    QUEUE="The queue; `queue`.",
    OWNER="The account that owns them; `owner`, its id.",
    DAY="The day in UTC on which they were submitted; `day`, such as 2026-11-30.",
)
describe(
    WaitReason,
    "Why a job has not started yet.",
    NO_WORKER="No live worker serves its queue; start one, or wait for one.",
    QUEUE="Other jobs are ahead of it, or a worker is about to claim it.",
    CONCURRENCY="A concurrency limit, of its owner or its queue, is used up by jobs that run or are ahead of it; more workers would not help.",
    CREDITS="Its owner has too few credits. Not returned at present: the cost is held on submission, and a job that its owner cannot pay for is rejected.",
    RETRY_BACKOFF="It failed with a retryable error, and is retried after a backoff.",
)
describe(
    JobNodeStatus,
    "The status of a part of a job.",
    PENDING="It has not started.",
    RUNNING="It is running.",
    COMPLETED="It succeeded.",
    FAILED="It failed; `error` says why.",
    SKIPPED="The job failed or was cancelled before it could do its work, or had its result from an earlier attempt.",
    CANCELLED="The job was cancelled before this part completed.",
)
describe(
    JobEventType,
    "What happened to the job.",
    CREATED="The job was submitted.",
    QUEUED="It was dispatched to the workers of its queue.",
    STARTED="A worker claimed it: a new attempt begins.",
    STEP_STARTED="A part of it started; `step` names it.",
    PROGRESS="Its progress changed: `progress` is the new value, and `data` may have `secondsLeft`, the estimated remaining time.",
    STEP_COMPLETED="A part of it completed or failed; `step` names it.",
    LOG="It printed or logged something: `message` has the lines, or the first and the last of many. `JobAttempt.log` has all of them.",
    METRIC="Metric points were recorded; `step` names the part that reported them, and `runMetrics` streams them.",
    RETRYING="The attempt ended without a result, and another one follows.",
    CANCEL_REQUESTED="Cancellation was requested while it ran.",
    COMPLETED="It succeeded. This is the last event.",
    FAILED="It failed. This is the last event.",
    CANCELLED="It was cancelled. This is the last event.",
)
