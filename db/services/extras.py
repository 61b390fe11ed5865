"""Whether the workers have what an extra of the package installs, so that what they cannot do is refused before it is sent."""

from __future__ import annotations

from importlib.util import find_spec

from db.core.work import Work
from db.queries import scheduling

NO_VIDEO = "Videos cannot be read: the extra `video` is not installed. Run `pip install 'trellis[video]'` where the workers run."


async def can_read_videos(work: Work, queue: str) -> bool:
    """Whether workers of the queue can. Where none runs, those to come are taken to be installed as this process is."""
    found = await work.scalar(scheduling.any_has_extra(queue, "video"))
    return find_spec("av") is not None if found is None else bool(found)
