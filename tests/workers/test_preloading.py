"""What a forkserver imports and runs beforehand: its bodies import nothing more, and get no package that they do not use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

PROGRAM = """
import json, os, sys
from pathlib import Path
from workers.ml import preloading

def body(number, *steps):  # forked as for a body; polars must not start threads in the process that forks
    if os.fork():
        os.wait()
        return
    preloaded = set(sys.modules)
    from tests.workers.pipeline_runner import PipelineRecorder, chain, run
    import polars as pl
    from threadpoolctl import ThreadpoolController

    class Recorder(PipelineRecorder):
        threads = set()

        def metric(self, key, step, value):
            self.threads.update(pool.num_threads for pool in ThreadpoolController().lib_controllers)

    numbers = [float(number % 17) for number in range(120)]
    labels = ["yes" if number > 8 else "no" for number in numbers]
    frame = pl.DataFrame({"x": numbers, "color": ["red", "blue", "green"] * 40, "label": labels})
    imported_by_test = set(sys.modules)
    folder = Path(sys.argv[1]) / number
    folder.mkdir()
    result, _ = run(folder, frame, chain(*steps), report=Recorder())
    late = sorted(set(sys.modules) - imported_by_test)
    unused = [name for name in preloading.UNUSED_PACKAGES if name in preloaded]
    print(json.dumps({"kind": result["kind"], "late": late, "unused": unused, "threads": list(Recorder.threads)}))
    sys.stdout.flush()
    os._exit(0)

body("one", "one_hot_encode", ("train_k_means", {"exclude": ["label"]}))
preloading.preload()
body("two", "one_hot_encode", "scale", ("train_logistic_regression", {"target": "label"}))
body("three", "scale")
"""


def test_a_body_imports_nothing_that_its_forkserver_could_have_imported_and_trains_with_one_thread(tmp_path: Path) -> None:
    """With one thread as well where the forkserver had imported nothing: with several, the same seed would make another model."""
    completed = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120)
    first, *others = [json.loads(line) for line in completed.stdout.splitlines()]
    assert len(first.pop("late")) > 100
    assert first == {"kind": "model", "unused": [], "threads": [1]}
    assert others == [
        {"kind": "model", "late": [], "unused": [], "threads": [1]},
        {"kind": "dataset", "late": [], "unused": [], "threads": []},
    ]
    assert completed.stderr == ""
