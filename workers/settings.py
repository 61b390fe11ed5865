"""Settings of workers. Every default suits one machine."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


class WorkerSettings(BaseSettings):
    """Slots, times and limits of a worker process, from `TRELLIS_WORKER_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_WORKER_", extra="ignore")

    slots: int = Field(default=0, ge=0, le=256, description="Jobs a worker runs at once. 0: one for each core.")
    lease: float = Field(
        default=10.0,
        gt=0,
        description="Lease of a job, in seconds: how long after its last heartbeat it goes to another worker. The same for all workers.",
    )
    pulse: float = Field(default=2.0, gt=0, description="Seconds between heartbeats of a worker; well below the lease.")
    look: float = Field(default=1.0, gt=0, description="Seconds between polls for waiting jobs and expired leases.")
    ring_again: float = Field(
        default=5.0, gt=0, description="Seconds after which a job that was dispatched and not claimed is dispatched again."
    )
    grace: float = Field(
        default=3.0,
        ge=0,
        description="Grace period in seconds within which a stopping worker finishes its jobs. In the last third of it (a second at most) "
        "jobs still running are given back.",
    )
    max_losses: int = Field(default=10, ge=1, description="Losses of its worker after which a job is FAILED.")
    backoff_base: float = Field(default=2.0, gt=0, description="Seconds before the second try of a job.")
    backoff_factor: float = Field(default=4.0, ge=1, description="Factor of the pause from each try to the next.")
    backoff_jitter: float = Field(default=0.25, ge=0, lt=1, description="Random jitter of each of these pauses, as a share of it.")
    job_timeout: float = Field(default=6 * 3600.0, gt=0, description="Timeout of an attempt, in seconds, if its job sets none.")
    job_timeouts: dict[str, float] = Field(
        default={}, description='The same by kind of job, as JSON: `{"INGEST": 3600}`. Other kinds have the general timeout.'
    )
    cancel_patience: float = Field(default=5.0, ge=0, description="Seconds between SIGTERM and SIGKILL for the body of a cancelled job.")
    memory_bytes: int = Field(
        default=4 * GIB, gt=0, description="Memory that a body may use, in bytes; above it, the job fails with OUT_OF_MEMORY."
    )
    file_bytes: int = Field(default=200 * GIB, gt=0, description="Largest file that a body may write, in bytes.")
    cpu_seconds: int = Field(default=24 * 3600, gt=0, description="CPU seconds of all its threads that a body may use.")
    open_files: int = Field(default=1024, ge=64, description="Files that a body may have open.")
    niceness: int = Field(
        default=5,
        ge=0,
        le=19,
        description="Niceness of bodies, so that the API and the worker come first on a busy machine. 0: the same priority.",
    )
    log_events: int = Field(
        default=200, ge=0, description="LOG events that a job may write in all its attempts; the whole log is an artifact."
    )
    log_bytes: int = Field(
        default=64 * 1024**2, ge=0, description="Size of an attempt's log, in bytes; of later output only the end is kept."
    )
    events_per_second: int = Field(
        default=5, ge=1, description="Most events of progress, steps, metrics and logs that a job writes a second."
    )
    scratch: Path | None = Field(
        default=None, description="Folder for downloads and files of bodies. Empty: the system's temporary folder."
    )
    checkpoint_every: float = Field(
        default=30.0, ge=0, description="Seconds of training or reading between checkpoints, from which another attempt can resume."
    )
    checkpoint_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Size of an upload, in bytes, from which its copy, the parts read from it and its table are kept for another attempt.",
    )
    preload: bool = Field(default=True, description="Import the heavy libraries once, in the forkserver, so that bodies start at once.")

    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Port of the worker's Prometheus metrics; each further worker of `trellis up` uses the next. 0: not served.",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of the metrics endpoint. It has no secrets and no authentication: use a private network."
    )

    def slot_count(self) -> int:
        """Return `slots`, or the number of cores if it is 0."""
        return self.slots or os.cpu_count() or 1

    def idle_timeout(self, default: float) -> float:
        """Seconds that a transaction may be idle; well below the lease, so that a frozen worker's locks are released in time."""
        return max(min(default, self.lease / 2), 1.0)


@lru_cache
def worker_settings() -> WorkerSettings:
    """The settings of this process, read once."""
    return WorkerSettings()
