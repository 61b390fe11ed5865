"""The stage on which bodies of jobs play, and a database whose changes are told."""

from __future__ import annotations

from tests.event_writer import notifying_database
from tests.jobs.job_driver import job_driver
from tests.workers.worker_harness import harness, harness_with_worker, owner, shared_worker_queue

__all__ = ["harness", "harness_with_worker", "job_driver", "notifying_database", "owner", "shared_worker_queue"]
