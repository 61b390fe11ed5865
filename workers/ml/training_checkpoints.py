"""Training checkpoints: written at intervals and restored by the next attempt, only if it is exactly the same training.

A checkpoint holds an unfinished model in a format without code: LightGBM's text format, or skops with the types allowed in model files.
Nothing is unpickled.
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
# Maximum share of the training time spent on writing checkpoints.
MAX_SAVE_SHARE = 0.1


class SavedCheckpoint(TypedDict):
    """A checkpoint of an earlier attempt. The worker has verified the file's checksum."""

    state: dict[str, Any]
    path: str


class CheckpointSettings(TypedDict):
    """`interval`: seconds of training between two checkpoints."""

    interval: float
    checkpoint: NotRequired[SavedCheckpoint | None]


@dataclass(frozen=True)
class RestoredModel:
    """A model after `done` rounds or trees; `notes` are what the training passed to `CheckpointManager.save` with it."""

    model: Any
    done: int
    notes: dict[str, Any]


class CheckpointManager:
    """Saves and restores the checkpoints of one training; does neither if `settings` is None.

    `identity` (step, parameters, seed) is part of the fingerprint.
    """

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
        """Compute the fingerprint of the training from its arrays, parameters and library versions. Call it before `restore` and `save`."""
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
        """Return the model that an earlier attempt of the same training saved, read by `load`, or None; report which to the worker."""
        saved, self._saved = self._saved, None
        if saved is None:
            return None
        state = saved["state"]
        if state["fingerprint"] != self._fingerprint:
            self._report_restart("its data, parameters or library versions differ")
            return None
        try:
            model = load(Path(saved["path"]))
        except Exception as error:  # noqa: BLE001 - the training can start without it, whatever is wrong
            self._report_restart(f"it cannot be read ({type(error).__name__}: {error})")
            return None
        self._reporter.resumed(CHECKPOINT_NAME, f"Resumes from {unit} {state['done']} of {state['total']}.")
        return RestoredModel(model, state["done"], state["notes"])

    def _report_restart(self, reason: str) -> None:
        self._reporter.restarted(
            CHECKPOINT_NAME, f"The checkpoint of an earlier attempt is not used: {reason}. Training starts from the beginning."
        )

    @property
    def is_due(self) -> bool:
        """True once the interval has passed, or ten times the duration of the last save if that is longer."""
        return time.monotonic() - self._last_saved_at >= max(self._interval, self._save_seconds / MAX_SAVE_SHARE)

    def save(self, done: int, total: int, write: Callable[[Path], None], **notes: Any) -> None:
        """Save a checkpoint after `done` of `total` rounds: `write` writes the model to a path, `notes` are JSON values stored with it."""
        started = time.monotonic()
        self._save_count += 1
        path = self._folder / f"checkpoint-{self._save_count}"
        write(path)
        state = {"fingerprint": self._fingerprint, "done": done, "total": total, "notes": notes}
        self._reporter.checkpoint(CHECKPOINT_NAME, done, state, path, disposable=True)
        self._last_saved_at = time.monotonic()
        self._save_seconds = self._last_saved_at - started


def write_estimator(estimator: Any) -> Callable[[Path], None]:
    from workers.ml.artifacts.trust import import_skops  # takes long; the API imports the registry only for its schemas

    return lambda path: import_skops().dump(estimator, path)


def read_estimator(path: Path) -> Any:
    """Load an estimator; only types allowed in model files are constructed."""
    from workers.ml.artifacts.trust import load_model

    return load_model(path)
