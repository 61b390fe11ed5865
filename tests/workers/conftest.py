"""Fixtures of real workers."""

from tests.workers.in_process_worker import running_worker
from tests.workers.worker_harness import harness, harness_with_worker, owner, shared_worker_queue

__all__ = ["harness", "harness_with_worker", "owner", "running_worker", "shared_worker_queue"]
