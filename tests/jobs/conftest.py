"""Fixtures of the job tests: workers with scripted job bodies, and a database that publishes its changes."""

from __future__ import annotations

from tests.event_writer import notifying_database
from tests.jobs.job_driver import job_driver
from tests.workers.worker_harness import harness, harness_with_worker, owner, shared_worker_queue

__all__ = ["harness", "harness_with_worker", "job_driver", "notifying_database", "owner", "shared_worker_queue"]
