"""Checkpoints of a training: written now and then, read back by the next attempt, and used only for the very same training.

A checkpoint holds a model that is not yet finished, in a form that holds no code: LightGBM's own text, or skops with the types that
model files may have. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from workers.ml.reporting import Reporter

if TYPE_CHECKING:
    import numpy as np

CHECKPOINT_NAME = "training"
# Writing one may take at most about this share of the time between two.
MAX_SAVE_SHARE = 0.1


class SavedCheckpoint(TypedDict):
    """What an earlier attempt left; the file has been held against its checksum."""

    state: dict[str, Any]
    path: str


class CheckpointSettings(TypedDict):
    """`every`: seconds of training between two checkpoints."""

    interval: float
    checkpoint: NotRequired[SavedCheckpoint | None]


@dataclass(frozen=True)
class RestoredModel:
    """A model after `done` rounds or trees; `notes` is what its training wrote beside it."""

    model: Any
    done: int
    notes: dict[str, Any]


class CheckpointManager:
    """Of one training. Without a `keeping`, nothing is kept and nothing is found."""

    def __init__(self, reporter: Reporter, folder: Path, settings: CheckpointSettings | None, **identity: Any) -> None:
        self._reporter = reporter
        self._folder = folder
        self._saved = None if settings is None else settings.get("checkpoint")
        self._interval = math.inf if settings is None else settings["interval"]
        self._identity = identity
        self._fingerprint = ""
        self._last_saved_at = time.monotonic()
        self._save_seconds = 0.0
        self._save_count = 0

    def set_fingerprint(self, *arrays: np.ndarray | None) -> None:
        """These arrays, with the parameters and the libraries, decide what the training makes; to be told before all else."""
        if self._interval == math.inf:
            return
        digest = hashlib.sha256()
        packages = {name: version(name) for name in ("lightgbm", "numpy", "scikit-learn")}
        digest.update(json.dumps([self._identity, packages], sort_keys=True, default=str).encode())
        for values in arrays:
            if values is not None:
                digest.update(f"{values.dtype} {values.shape}".encode())
                digest.update(repr(values.tolist()).encode() if values.dtype.hasobject else values.reshape(-1).view("u1").data)
        self._fingerprint = digest.hexdigest()
        self._last_saved_at = time.monotonic()

    def restore(self, unit: str, load: Callable[[Path], Any]) -> RestoredModel | None:
        """The model that an earlier attempt left of this same training, read by `read`; it is told what became of it."""
        saved, self._saved = self._saved, None
        if saved is None:
            return None
        state = saved["state"]
        if state["fingerprint"] != self._fingerprint:
            self._report_restart("it is of other data, other parameters or other versions of the libraries")
            return None
        try:
            model = load(Path(saved["path"]))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the training can do without
            self._report_restart(f"it cannot be read ({type(error).__name__}: {error})")
            return None
        self._reporter.resumed(CHECKPOINT_NAME, f"Goes on from {unit} {state['done']} of {state['total']}.")
        return RestoredModel(model, state["done"], state["notes"])

    def _report_restart(self, reason: str) -> None:
        self._reporter.restarted(
            CHECKPOINT_NAME, f"The checkpoint of an earlier attempt is not used: {reason}. The training starts from its beginning."
        )

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._last_saved_at >= max(self._interval, self._save_seconds / MAX_SAVE_SHARE)

    def save(self, done: int, total: int, write: Callable[[Path], None], **notes: Any) -> None:
        """Checkpoint a model after `done` of `total` rounds."""
        started = time.monotonic()
        self._save_count += 1
        path = self._folder / f"checkpoint-{self._save_count}"
        write(path)
        state = {"fingerprint": self._fingerprint, "done": done, "total": total, "notes": notes}
        self._reporter.checkpoint(CHECKPOINT_NAME, done, state, path, disposable=True)
        self._last_saved_at = time.monotonic()
        self._save_seconds = self._last_saved_at - started


def write_estimator(estimator: Any) -> Callable[[Path], None]:
    import skops.io  # takes a second to import, and the API imports the registry for its schemas alone

    return lambda path: skops.io.dump(estimator, path)


def read_estimator(path: Path) -> Any:
    """Only types that a model file may have; nothing else is built."""
    from workers.ml.artifacts.trust import load_model

    return load_model(path)
