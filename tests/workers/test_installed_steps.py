"""Steps of a package that an operator installed: they are listed, run and stored as ours are, and a faulty package stops the start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.exhaustive import exhaustive

MODULE = """
from pydantic import Field

from workers.ml.steps.step import Parameters, Step


class HalfParameters(Parameters):
    times: int = Field(default=1, ge=1, le=9, title="Times", description="How often numbers are halved.")


def run(bundle, node):
    import polars as pl

    factor = 0.5 ** node.parameters.times
    bundle.lazy = bundle.lazy.with_columns(pl.selectors.float() * factor)
    return {"factor": factor}


HALVE = Step("acme_halve", "TRANSFORM", "Halve", "Halves numbers.", HalfParameters, "choose", run)
CLASH = Step("scale", "TRANSFORM", "Scale", "Scales.", HalfParameters, "choose", run)
STEPS = [HALVE]
NONE = 3
"""
PROGRAM = """
import json, sys
from pathlib import Path
import polars as pl
from tests.workers.pipeline_runner import chain, run
from workers.ml.steps import DEFINITIONS, STEPS
frame = pl.DataFrame({"x": [8.0, 4.0]})
result, report = run(Path(sys.argv[1]), frame, chain(("acme_halve", {"times": 2})))
print(json.dumps([pl.read_parquet(result["parquet"])["x"].to_list(), report.outputs["acme_halve"], DEFINITIONS[-1]["key"], len(STEPS)]))
"""


def start(folder: Path, target: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run the program where a package with this entry point is installed."""
    site = folder / "site"
    (site / "acme_steps-1.2.dist-info").mkdir(parents=True)
    (site / "acme_steps.py").write_text(MODULE)
    (site / "acme_steps-1.2.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-steps\nVersion: 1.2\n")
    (site / "acme_steps-1.2.dist-info" / "entry_points.txt").write_text(f"[trellis.steps]\nacme = {target}\n")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(Path.cwd())])}
    return subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, env=environment, check=False)


def test_an_installed_step_is_listed_and_runs(tmp_path: Path) -> None:
    from workers.ml.steps import STEPS

    completed = start(tmp_path, "acme_steps:STEPS", PROGRAM)
    assert completed.returncode == 0, completed.stderr
    assert json.loads(completed.stdout) == [[2.0, 1.0], {"factor": 0.25}, "acme_halve", len(STEPS) + 1]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("acme_steps:CLASH", "The package acme-steps 1.2 brings the step 'scale', which Trellis has."),
        exhaustive("acme_steps:NONE", "The entry point 'acme' of the package acme-steps 1.2 is no `Step`"),
        exhaustive("acme_steps:nothing", "cannot be imported: AttributeError"),
    ],
)
def test_a_faulty_package_is_named_at_the_start(tmp_path: Path, target: str, words: str) -> None:
    completed = start(tmp_path, target, "import workers.ml.steps")
    assert completed.returncode == 1
    assert words.lower() in completed.stderr.lower()
