"""The one table of a job's states, from which the trigger, the services and the run's status are made.

`docs/adr/0002-job-transitions.md` gives the reasons.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class JobStatus(StrEnum):
    """Where a job stands. *pending* is written and not yet sent, *queued* waits in Redis."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunStatus(StrEnum):
    """Where a run stands: it follows its job."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Transition(NamedTuple):
    """One allowed step. `claims` marks the only way in which the attempt number grows."""

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

RUN_STATUS: dict[JobStatus, RunStatus] = {
    JobStatus.PENDING: RunStatus.PENDING,
    JobStatus.QUEUED: RunStatus.PENDING,
    JobStatus.RUNNING: RunStatus.RUNNING,
    JobStatus.CANCELLING: RunStatus.RUNNING,
    JobStatus.COMPLETED: RunStatus.COMPLETED,
    JobStatus.FAILED: RunStatus.FAILED,
    JobStatus.CANCELLED: RunStatus.CANCELLED,
}


def allowed_before(after: JobStatus, operation: str) -> frozenset[JobStatus]:
    """The states from which `by` may lead to `after`; `KeyError` where the table has no such step, so a typo never becomes a no-op."""
    states = frozenset(transition.before for transition in TRANSITIONS if transition.after is after and transition.operation == operation)
    if not states:
        raise KeyError(f"{operation} never leads to {after}")
    return states


def transition_guard_sql() -> str:
    """The trigger function that refuses every transition the table does not have; compared with the live one by a house test."""
    steps = ",\n    ".join(f"('{transition.before}', '{transition.after}')" for transition in TRANSITIONS)
    active = ", ".join(f"'{state}'" for state in JobStatus if state in ACTIVE)
    claims = ", ".join(f"('{transition.before}', '{transition.after}')" for transition in TRANSITIONS if transition.claims)
    terminal = ", ".join(f"'{state}'" for state in JobStatus if state in TERMINAL)
    run_status = "\n      ".join(f"WHEN '{job}' THEN '{run}'" for job, run in RUN_STATUS.items())
    return f"""\
CREATE OR REPLACE FUNCTION trellis_guard_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.status IN ({terminal}) THEN
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
  IF NEW.status <> OLD.status THEN
    UPDATE runs SET started_at = coalesce(started_at, NEW.started_at), completed_at = NEW.completed_at, status = CASE NEW.status
      {run_status}
      END
    WHERE job_id = NEW.id;
  END IF;
  RETURN NEW;
END $$"""  # noqa: S608 - made of our own enums


def insert_guard_sql() -> str:
    """The trigger function that refuses a job which does not begin at the beginning; compared with the live one too."""
    return f"""\
CREATE OR REPLACE FUNCTION trellis_guard_new_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (NEW.status, NEW.attempt, NEW.last_sequence) IS DISTINCT FROM ('{JobStatus.PENDING}', 0, 1) THEN
    RAISE EXCEPTION 'job %: a job begins as {JobStatus.PENDING}, without an attempt and with its first event', NEW.id USING ERRCODE = 'TR001';
  END IF;
  RETURN NEW;
END $$"""
