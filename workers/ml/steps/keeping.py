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

NAME = "training"
# Writing one may take at most about this share of the time between two.
SHARE = 0.1


class Found(TypedDict):
    """What an earlier attempt left; the file has been held against its checksum."""

    state: dict[str, Any]
    path: str


class Keeping(TypedDict):
    """`every`: seconds of training between two checkpoints."""

    every: float
    found: NotRequired[Found | None]


@dataclass(frozen=True)
class Restored:
    """A model after `done` rounds or trees; `notes` is what its training wrote beside it."""

    model: Any
    done: int
    notes: dict[str, Any]


class Keeper:
    """Of one training. Without a `keeping`, nothing is kept and nothing is found."""

    def __init__(self, report: Reporter, folder: Path, keeping: Keeping | None, **identity: Any) -> None:
        self._report = report
        self._folder = folder
        self._found = None if keeping is None else keeping.get("found")
        self._every = math.inf if keeping is None else keeping["every"]
        self._identity = identity
        self._fingerprint = ""
        self._last = time.monotonic()
        self._cost = 0.0
        self._number = 0

    def identify(self, *arrays: np.ndarray | None) -> None:
        """These arrays, with the parameters and the libraries, decide what the training makes; to be told before all else."""
        if self._every == math.inf:
            return
        digest = hashlib.sha256()
        packages = {name: version(name) for name in ("lightgbm", "numpy", "scikit-learn")}
        digest.update(json.dumps([self._identity, packages], sort_keys=True, default=str).encode())
        for values in arrays:
            if values is not None:
                digest.update(f"{values.dtype} {values.shape}".encode())
                digest.update(repr(values.tolist()).encode() if values.dtype.hasobject else values.reshape(-1).view("u1").data)
        self._fingerprint = digest.hexdigest()
        self._last = time.monotonic()

    def restore(self, words: str, read: Callable[[Path], Any]) -> Restored | None:
        """The model that an earlier attempt left of this same training, read by `read`; it is told what became of it."""
        found, self._found = self._found, None
        if found is None:
            return None
        state = found["state"]
        if state["fingerprint"] != self._fingerprint:
            self._restart("it is of other data, other parameters or other versions of the libraries")
            return None
        try:
            model = read(Path(found["path"]))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the training can do without
            self._restart(f"it cannot be read ({type(error).__name__}: {error})")
            return None
        self._report.resumed(NAME, f"Goes on from {words} {state['done']} of {state['total']}.")
        return Restored(model, state["done"], state["notes"])

    def _restart(self, why: str) -> None:
        self._report.restarted(NAME, f"The checkpoint of an earlier attempt is not used: {why}. The training starts from its beginning.")

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._last >= max(self._every, self._cost / SHARE)

    def keep(self, done: int, total: int, write: Callable[[Path], None], **notes: Any) -> None:
        """Checkpoint a model after `done` of `total` rounds."""
        started = time.monotonic()
        self._number += 1
        path = self._folder / f"checkpoint-{self._number}"
        write(path)
        state = {"fingerprint": self._fingerprint, "done": done, "total": total, "notes": notes}
        self._report.checkpoint(NAME, done, state, path, disposable=True)
        self._last = time.monotonic()
        self._cost = self._last - started


def write_estimator(estimator: Any) -> Callable[[Path], None]:
    import skops.io  # takes a second to import, and the API imports the registry for its schemas alone

    return lambda path: skops.io.dump(estimator, path)


def read_estimator(path: Path) -> Any:
    """Only types that a model file may have; nothing else is built."""
    from workers.ml.artifacts.trust import load_model

    return load_model(path)
