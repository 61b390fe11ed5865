"""Steps of Python packages that an operator installed beside Trellis: entry points of the group `trellis.steps`, each a `Step` or several.

They run with the rights of a body and are imported by the worker and the API, so installing one is up to the operator, as installing Trellis is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points

from workers.ml.steps.step import Step

GROUP = "trellis.steps"
_KEY = re.compile(r"[a-z][a-z0-9_]{0,49}")


class StepPackageError(Exception):
    """An installed step cannot be used. Nothing starts until its package is mended or removed: a job must not miss a step without a word."""


def installed_steps(own: Mapping[str, Step]) -> dict[str, Step]:
    """Return the installed steps by key. Raises StepPackageError."""
    steps: dict[str, Step] = {}
    origins = dict.fromkeys(own, "Trellis")
    for entry in sorted(entry_points(group=GROUP), key=lambda each: (each.dist.name if each.dist else "", each.name)):
        origin = f"the package {entry.dist.name} {entry.dist.version}" if entry.dist else "a package"
        for step in _load(entry, origin):
            if step.key in origins:
                message = f"{origin[0].upper()}{origin[1:]} brings the step {step.key!r}, which {origins[step.key]} has. Rename it there, or remove the package."
                raise StepPackageError(message)
            steps[step.key] = step
            origins[step.key] = origin
    return steps


def _load(entry: EntryPoint, origin: str) -> list[Step]:
    try:
        loaded = entry.load()
    except Exception as error:
        message = (
            f"The entry point {entry.name!r} of {origin} cannot be imported: {type(error).__name__}: {error}. Mend or remove the package."
        )
        raise StepPackageError(message) from error
    steps = list(loaded) if isinstance(loaded, Iterable) else [loaded]
    for step in steps:
        if not isinstance(step, Step) or not _KEY.fullmatch(step.key):
            message = f"The entry point {entry.name!r} of {origin} is no `Step` with a key of lower-case letters, digits and underscores, nor a list of such."
            raise StepPackageError(message)
        if step.place == "train" and step.trainer is None:
            raise StepPackageError(f"The step {step.key!r} of {origin} trains and has no `trainer`.")
    return steps
