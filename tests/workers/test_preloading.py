"""What a forkserver imports and runs beforehand: its bodies import nothing more, and get no package that they do not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
from pathlib import Path
from workers.ml import preloading
preloading.preload()
preloaded = set(sys.modules)
if os.fork() == 0:  # as for a body; polars must not start threads in the process that forks
    from tests.workers.pipeline_runner import chain, run
    import polars as pl
    numbers = [float(number % 17) for number in range(120)]
    labels = ["yes" if number > 8 else "no" for number in numbers]
    frame = pl.DataFrame({"x": numbers, "color": ["red", "blue", "green"] * 40, "label": labels})
    imported_by_test = set(sys.modules)
    steps = [step if isinstance(step, str) else tuple(step) for step in json.loads(sys.argv[2])]
    result, _ = run(Path(sys.argv[1]), frame, chain(*steps))
    late = sorted(set(sys.modules) - imported_by_test)
    print(json.dumps({"kind": result["kind"], "late": late, "unused": [name for name in preloading.UNUSED_PACKAGES if name in preloaded]}))
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("model", ["one_hot_encode", "scale", ["train_logistic_regression", {"target": "label"}]]),
        ("dataset", ["scale"]),
    ],
)
def test_a_body_imports_nothing_that_its_forkserver_could_have_imported(tmp_path: Path, kind: str, steps: list[object]) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(steps)]
    completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(completed.stdout) == {"kind": kind, "late": [], "unused": []}
    assert completed.stderr == ""
