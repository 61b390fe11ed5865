"""Settings of worker processes. Every default suits one machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from db.core.base_settings import TrellisSettings

GIB = 1024**3


class WorkerSettings(TrellisSettings):
    """Slots, intervals and limits of a worker process. Read from `TRELLIS_WORKER_*`."""

    model_config = SettingsConfigDict(env_prefix="TRELLIS_WORKER_", extra="ignore")
    deprecated_names: ClassVar[Mapping[str, str]] = {
        "heartbeat_interval": "TRELLIS_WORKER_PULSE",
        "poll_interval": "TRELLIS_WORKER_LOOK",
        "dispatch_retry_interval": "TRELLIS_WORKER_RING_AGAIN",
        "cancel_grace": "TRELLIS_WORKER_CANCEL_PATIENCE",
        "checkpoint_interval": "TRELLIS_WORKER_CHECKPOINT_EVERY",
        "checkpoint_min_bytes": "TRELLIS_WORKER_CHECKPOINT_BYTES",
    }

    slots: int = Field(default=0, ge=0, le=256, description="Jobs that a worker runs at once. 0: one per core.")
    lease: float = Field(
        default=10.0,
        gt=0,
        description="Lease in seconds: after this time without a heartbeat of its worker, a job goes to another. Set the same for all workers.",
    )
    heartbeat_interval: float = Field(default=2.0, gt=0, description="Seconds between a worker's heartbeats; set it well below the lease.")
    poll_interval: float = Field(
        default=1.0, gt=0, description="Seconds between polls for waiting jobs, expired leases, and events to tell and to send."
    )
    dispatch_retry_interval: float = Field(
        default=5.0, gt=0, description="Seconds after which the dispatch notice of a job that nobody claimed is sent again."
    )
    grace: float = Field(
        default=3.0,
        ge=0,
        description="Grace period in seconds after SIGTERM in which running jobs may finish; in its last third (a second at most) the "
        "unfinished ones are given back.",
    )
    max_losses: int = Field(default=10, ge=1, description="Losses (attempts whose worker vanished) of a job before it is FAILED.")
    backoff_base: float = Field(default=2.0, gt=0, description="Seconds before the second try of a job.")
    backoff_factor: float = Field(default=4.0, ge=1, description="Factor by which the delay grows with each further try.")
    backoff_jitter: float = Field(default=0.25, ge=0, lt=1, description="Random share by which each of these delays is longer or shorter.")
    job_timeout: float = Field(default=6 * 3600.0, gt=0, description="Seconds that a body may run if its job sets no limit of its own.")
    job_timeouts: dict[str, float] = Field(
        default={}, description='The same by kind of job, as JSON: `{"INGEST": 3600}`. Other kinds have the general limit.'
    )
    cancel_grace: float = Field(default=5.0, ge=0, description="Seconds between SIGTERM and SIGKILL for the body of a cancelled job.")
    memory_bytes: int = Field(
        default=4 * GIB, gt=0, description="Private memory that a body may use, in bytes; beyond it the job fails with OUT_OF_MEMORY."
    )
    file_bytes: int = Field(default=200 * GIB, gt=0, description="Largest file that a body may write, in bytes.")
    cpu_seconds: int = Field(default=24 * 3600, gt=0, description="CPU seconds that a body may use, all its threads together.")
    open_files: int = Field(default=1024, ge=64, description="Files that a body may have open.")
    niceness: int = Field(
        default=5,
        ge=0,
        le=19,
        description="Niceness (`nice`) of bodies, by which the API and the worker itself come first on a busy machine. 0: none.",
    )
    log_events: int = Field(
        default=200, ge=0, description="LOG events that a job may write in all its attempts; the complete log is an artifact."
    )
    log_bytes: int = Field(
        default=64 * 1024**2, ge=0, description="Size of an attempt's log, in bytes; of further output only the end is kept."
    )
    events_per_second: int = Field(
        default=5, ge=1, description="Events of progress, steps, metrics and logs that a job writes a second, at most."
    )
    scratch: Path | None = Field(
        default=None, description="Folder for downloads and the files of bodies. Empty: the system's temporary folder."
    )
    body_environment: list[str] = Field(
        default_factory=list[str],
        description='Further environment variables that bodies get, as JSON: `["MY_LICENSE_FILE"]`. They get those that Python and its numerical'
        " libraries read, and no setting of Trellis.",
    )
    body_paths: list[Path] = Field(
        default_factory=list[Path],
        description='Further files and folders that bodies may read and write, as JSON: `["/dev/nvidia0"]`. Where the kernel has Landlock, they'
        " reach only their own folder, the system's and Python's libraries.",
    )
    checkpoint_interval: float = Field(
        default=30.0, ge=0, description="Seconds of training or reading between two checkpoints, from which a later attempt resumes."
    )
    checkpoint_min_bytes: int = Field(
        default=64 * 1024**2,
        ge=0,
        description="Smallest upload, in bytes, whose copy, parsed parts and table are checkpointed for a later attempt.",
    )
    preload: bool = Field(default=True, description="Import the heavy libraries once, before jobs come, so that bodies start faster.")

    metrics_port: int = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Port of the worker's `/metrics` for Prometheus; each further worker of `trellis up` takes the next port. 0: not served.",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address of these metrics. They hold no secrets and need no token: keep them on a private network."
    )

    def slot_count(self) -> int:
        """The number of slots: the setting, or one per core."""
        return self.slots or os.cpu_count() or 1

    def idle_timeout(self, default: float) -> float:
        """Seconds that a transaction may be idle: well below the lease, so that the locks of a frozen worker are gone when its jobs are reaped."""
        return max(min(default, self.lease / 2), 1.0)

    @field_validator("job_timeouts")
    @classmethod
    def _name_kinds(cls, value: dict[str, float]) -> dict[str, float]:
        if value:
            from db.tables.jobs import JobKind  # commands that only show their help load no tables

            kinds = [kind.name for kind in JobKind]
            for name in value:
                if name not in kinds:
                    raise ValueError(f"{name!r} is no kind of job. Kinds are {', '.join(kinds)}.")
        return value


@lru_cache
def worker_settings() -> WorkerSettings:
    """The settings of this process, read once."""
    return WorkerSettings()
