"""The body of GENERATE jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypedDict

from workers.ml.generating import bearing_vibration, seismic_shots
from workers.ml.reporting import Reporter


class GenerateSpec(TypedDict):
    """`parameters` are complete and validated; the data is written to `target`."""

    generator: str
    parameters: dict[str, Any]
    seed: int
    target: str


def generate(spec: GenerateSpec, reporter: Reporter) -> dict[str, Any]:
    """Write the data; return how much it is, such as the rows and columns of a table."""
    key = spec["generator"]

    def progress(share: float, step: str) -> None:
        reporter.progress(100.0 * share, step)

    progress(0.0, f"Generate {key}")
    target = Path(spec["target"])
    write = _WRITERS.get(key)
    if write is not None:
        return write(spec["parameters"], spec["seed"], target, progress)
    from workers.ml.generating import tables  # scikit-learn is needed for tables alone

    return tables.write(key, spec["parameters"], spec["seed"], target, progress)


_WRITERS: Final[Mapping[str, Callable[[dict[str, Any], int, Path, Callable[[float, str], None]], dict[str, Any]]]] = {
    "bearing_vibration": bearing_vibration.write,
    "seismic_shots": seismic_shots.write,
}
