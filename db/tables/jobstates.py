"""The table of job states and transitions. Services read it, and the trigger functions on `jobs` are rendered from it.

`docs/adr/0002-job-transitions.md` gives the reasons.
"""

from enum import StrEnum
from typing import NamedTuple


class JobStatus(StrEnum):
    """The status of a job. *pending* is not yet dispatched, *queued* has a dispatch notice in Redis."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Transition(NamedTuple):
    """An allowed change of status. `claims` marks the only one that increments the attempt number."""

    before: JobStatus
    after: JobStatus
    operation: str
    claims: bool = False


TRANSITIONS: tuple[Transition, ...] = (
    Transition(JobStatus.PENDING, JobStatus.QUEUED, "dispatch"),
    Transition(JobStatus.PENDING, JobStatus.RUNNING, "claim", claims=True),
    Transition(JobStatus.QUEUED, JobStatus.RUNNING, "claim", claims=True),
    Transition(JobStatus.PENDING, JobStatus.CANCELLED, "cancel"),
    Transition(JobStatus.QUEUED, JobStatus.CANCELLED, "cancel"),
    Transition(JobStatus.RUNNING, JobStatus.COMPLETED, "settle"),
    Transition(JobStatus.RUNNING, JobStatus.FAILED, "settle"),
    Transition(JobStatus.RUNNING, JobStatus.PENDING, "give back"),
    Transition(JobStatus.RUNNING, JobStatus.CANCELLING, "cancel"),
    Transition(JobStatus.CANCELLING, JobStatus.CANCELLED, "settle"),
)

WAITING = frozenset({JobStatus.PENDING, JobStatus.QUEUED})
ACTIVE = frozenset({JobStatus.RUNNING, JobStatus.CANCELLING})
TERMINAL = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


def allowed_before(after: JobStatus, operation: str) -> frozenset[JobStatus]:
    """Return the states from which `operation` may lead to `after`. Raises `KeyError` if there are none, so that a typo is not a no-op."""
    states = frozenset(transition.before for transition in TRANSITIONS if transition.after is after and transition.operation == operation)
    if not states:
        raise KeyError(f"{operation} never leads to {after}")
    return states


PURGED_ERROR = '{"code": "PURGED", "message": "This was purged.", "retryable": false, "traceback": null}'
"""The error of a failed job that was purged, as the guard of `jobs` expects it."""


def transition_guard_sql() -> str:
    """Render the trigger function that refuses other transitions; a test compares it with its newest SQL file."""
    steps = ",\n    ".join(f"('{transition.before}', '{transition.after}')" for transition in TRANSITIONS)
    active = ", ".join(f"'{state}'" for state in JobStatus if state in ACTIVE)
    claims = ", ".join(f"('{transition.before}', '{transition.after}')" for transition in TRANSITIONS if transition.claims)
    terminal = ", ".join(f"'{state}'" for state in JobStatus if state in TERMINAL)
    return f"""\
CREATE OR REPLACE FUNCTION trellis_guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status IN ({terminal}) THEN
    -- A purge empties an ended job: that changes exactly these columns, to exactly these values.
    OLD.parameters = '{{}}';
    OLD.error = CASE WHEN OLD.error IS NOT NULL THEN '{PURGED_ERROR}'::jsonb END;
    OLD.current_step = NULL;
    OLD.retry_of_id = NULL;
    OLD.dataset_id = NULL;
    OLD.dataset_version_id = NULL;
    OLD.pipeline_id = NULL;
    OLD.snapshot_id = NULL;
    OLD.model_version_id = NULL;
    OLD.worker_id = NULL;
    OLD.updated_at = NEW.updated_at;
    IF NEW IS NOT DISTINCT FROM OLD THEN
      RETURN NEW;
    END IF;
    RAISE EXCEPTION 'job % is % and final', OLD.id, OLD.status USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
    {steps}
  ) THEN
    RAISE EXCEPTION 'job % cannot go from % to %', OLD.id, OLD.status, NEW.status USING ERRCODE = 'TR001';
  END IF;
  IF (OLD.status, NEW.status) IN ({claims}) THEN
    IF NEW.attempt <> OLD.attempt + 1 THEN
      RAISE EXCEPTION 'job %: a claim counts the attempt up by one', OLD.id USING ERRCODE = 'TR001';
    END IF;
  ELSIF NEW.attempt <> OLD.attempt THEN
    RAISE EXCEPTION 'job %: only a claim changes the attempt', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF OLD.status IN ({active}) AND NEW.status IN ({active}) AND NEW.worker_id IS DISTINCT FROM OLD.worker_id THEN
    RAISE EXCEPTION 'job %: an attempt stays with its worker', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.status <> OLD.status AND NEW.last_sequence <> OLD.last_sequence + 1 THEN
    RAISE EXCEPTION 'job %: a change of status takes the next event sequence', OLD.id USING ERRCODE = 'TR001';
  END IF;
  IF NEW.last_sequence NOT IN (OLD.last_sequence, OLD.last_sequence + 1) THEN
    RAISE EXCEPTION 'job %: events are numbered one by one', OLD.id USING ERRCODE = 'TR001';
  END IF;
  RETURN NEW;
END $$;
"""


def insert_guard_sql() -> str:
    """Render the trigger function that refuses a job inserted in another state than the first; a test compares it too."""
    return f"""\
CREATE OR REPLACE FUNCTION trellis_guard_new_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.status, NEW.attempt, NEW.last_sequence) IS DISTINCT FROM ('{JobStatus.PENDING}', 0, 1) THEN
    RAISE EXCEPTION 'job %: a job begins as {JobStatus.PENDING}, without an attempt and with its first event', NEW.id USING ERRCODE = 'TR001';
  END IF;
  RETURN NEW;
END $$;
"""
