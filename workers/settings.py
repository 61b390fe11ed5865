"""How workers work. Every default suits one machine."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


class WorkerSettings(BaseSettings):
    """Slots, times and limits of a worker process. Read from `TRELLIS_WORKER_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_WORKER_", extra="ignore")

    slots: int = Field(default=0, ge=0, le=256, description="Jobs a worker runs at once. 0: one for each core.")
    lease: float = Field(
        default=10.0, gt=0, description="Seconds after which a job whose worker went silent is given to another. The same for all workers."
    )
    pulse: float = Field(default=2.0, gt=0, description="Seconds between a worker's signs of life; well under the lease.")
    look: float = Field(default=1.0, gt=0, description="Seconds between looks for waiting jobs and for leases that ran out.")
    ring_again: float = Field(default=5.0, gt=0, description="Seconds after which an invitation that nobody answered is sent again.")
    grace: float = Field(
        default=3.0,
        ge=0,
        description="Seconds in which a worker that is told to stop should have no job left. They may finish in them, but for the last third "
        "(a second at most), in which the others are given back.",
    )
    max_losses: int = Field(default=10, ge=1, description="Times that a job may lose its worker before it is FAILED.")
    backoff_base: float = Field(default=2.0, gt=0, description="Seconds before the second try of a job.")
    backoff_factor: float = Field(default=4.0, ge=1, description="How much longer the pause before each further try is.")
    backoff_jitter: float = Field(
        default=0.25, ge=0, lt=1, description="Share by which each of these pauses is longer or shorter, at random."
    )
    job_timeout: float = Field(default=6 * 3600.0, gt=0, description="Seconds that a body may run where its job sets no limit of its own.")
    job_timeouts: dict[str, float] = Field(
        default={}, description='The same for single kinds of jobs, as JSON: `{"INGEST": 3600}`. Kinds not named have the general one.'
    )
    cancel_patience: float = Field(default=5.0, ge=0, description="Seconds between SIGTERM and SIGKILL for the body of a cancelled job.")
    memory_bytes: int = Field(
        default=4 * GIB, gt=0, description="Memory a body may use of its own, in bytes; past it, it ends OUT_OF_MEMORY."
    )
    file_bytes: int = Field(default=200 * GIB, gt=0, description="Largest file a body may write, in bytes.")
    cpu_seconds: int = Field(default=24 * 3600, gt=0, description="CPU seconds, of all its threads, that a body may use.")
    open_files: int = Field(default=1024, ge=64, description="Files a body may have open.")
    niceness: int = Field(
        default=5,
        ge=0,
        le=19,
        description="How far bodies give way to all else on the machine where it is busy, the API and the worker itself among it. 0: not at all.",
    )
    log_events: int = Field(
        default=200, ge=0, description="LOG events that a job may write, all its attempts together; the whole log is an artifact."
    )
    log_bytes: int = Field(
        default=64 * 1024**2, ge=0, description="Size of an attempt's log, in bytes; of what is printed after that only the end is kept."
    )
    events_per_second: int = Field(
        default=5, ge=1, description="Events of progress, steps, metrics and logs a second that a job writes at most."
    )
    scratch: Path | None = Field(
        default=None, description="Folder for downloads and what bodies write. Empty: the system's temporary folder."
    )
    checkpoint_every: float = Field(
        default=30.0, ge=0, description="Seconds of training or reading between two checkpoints, from which another attempt can go on."
    )
    checkpoint_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Size of an upload, in bytes, from which its copy, the parts read from it and its table are kept for another attempt.",
    )
    preload: bool = Field(default=True, description="Import the heavy libraries once, before jobs come, so that bodies start at once.")

    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Port of the worker's own numbers for Prometheus; each further worker of `trellis up` takes the next. 0: none are served.",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of those numbers. They have no secrets and no guard: give them a network of your own."
    )

    def slot_count(self) -> int:
        """The slots, counted."""
        return self.slots or os.cpu_count() or 1

    def idle_timeout(self, default: float) -> float:
        """Seconds that a transaction may rest. Well below the lease, or what a frozen worker has locked could not be taken from it in time."""
        return max(min(default, self.lease / 2), 1.0)


@lru_cache
def worker_settings() -> WorkerSettings:
    """The settings of this process, read once."""
    return WorkerSettings()
