"""The operations on jobs. Every change of status is one compare-and-set statement that also writes the event; see `transitions`."""

from db.core.queues import QUEUES
from db.services.jobs.cancelling import Cancellations, cancel, cancel_matching, cancel_named
from db.services.jobs.claiming import claim, claim_waiting
from db.services.jobs.dispatching import DispatchNotice, current_dispatches, dispatch
from db.services.jobs.heartbeat import HeldJob, heartbeat
from db.services.jobs.kinds import JobKindSpec, declare, declared_kinds, queue_for, spec_of, target_of, uses_dataset
from db.services.jobs.metrics import Point
from db.services.jobs.nodes import NodeChange
from db.services.jobs.reaping import poll, reap, retire_silent_workers
from db.services.jobs.requeueing import requeue
from db.services.jobs.retrying import retry, submit_again
from db.services.jobs.settling import Backoff, Failure, complete, fail, give_back, postpone, record_loss, settle_cancelled
from db.services.jobs.submitting import NewJob, submit
from db.services.jobs.transitions import Claim

__all__ = [
    "QUEUES",
    "Backoff",
    "Cancellations",
    "Claim",
    "DispatchNotice",
    "Failure",
    "HeldJob",
    "JobKindSpec",
    "NewJob",
    "NodeChange",
    "Point",
    "cancel",
    "cancel_matching",
    "cancel_named",
    "claim",
    "claim_waiting",
    "complete",
    "current_dispatches",
    "declare",
    "declared_kinds",
    "dispatch",
    "fail",
    "give_back",
    "heartbeat",
    "poll",
    "postpone",
    "queue_for",
    "reap",
    "record_loss",
    "requeue",
    "retire_silent_workers",
    "retry",
    "settle_cancelled",
    "spec_of",
    "submit",
    "submit_again",
    "target_of",
    "uses_dataset",
]
