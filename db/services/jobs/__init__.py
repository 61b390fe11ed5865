"""What can be done to a job. Every change of status is one compare-and-set that writes its event; see `transitions`."""

from db.core.queues import QUEUES
from db.services.jobs.cancelling import cancel
from db.services.jobs.claiming import claim, claim_waiting
from db.services.jobs.dispatching import Ring, dispatch, invited
from db.services.jobs.metrics import Point
from db.services.jobs.nodes import NodeChange
from db.services.jobs.pulse import Held, pulse
from db.services.jobs.requeueing import requeue
from db.services.jobs.retrying import retry
from db.services.jobs.settling import Backoff, Failure, cancelled, complete, fail, give_back, postpone
from db.services.jobs.submitting import NewJob, queue_for, submit
from db.services.jobs.sweeping import look, retire_silent_workers, sweep
from db.services.jobs.transitions import Claim

__all__ = [
    "QUEUES",
    "Backoff",
    "Claim",
    "Failure",
    "Held",
    "NewJob",
    "NodeChange",
    "Point",
    "Ring",
    "cancel",
    "cancelled",
    "claim",
    "claim_waiting",
    "complete",
    "dispatch",
    "fail",
    "give_back",
    "invited",
    "look",
    "postpone",
    "pulse",
    "queue_for",
    "requeue",
    "retire_silent_workers",
    "retry",
    "submit",
    "sweep",
]
