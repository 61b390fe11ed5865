"""The queues that jobs wait in. A worker serves some of them, or all."""

from __future__ import annotations

from uuid import UUID

QUEUES = ("default", "upload", "text", "tabular", "image", "audio", "video", "signal")


def entry_id(job_id: UUID, dispatch_no: int) -> str:
    """The id by which Redis has a dispatch of a job; each dispatch has another one."""
    return f"{job_id.hex}:{dispatch_no}"
