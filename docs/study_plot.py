"""Draw docs/study.png of a study of the demo's breast-cancer data, from what the API tells of it: `make demo`, then `python docs/study_plot.py URL TOKEN`
with a running Trellis. The study is made if there is none."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

from server.demo.api import Api

mpl.use("Agg")  # before pyplot is imported

from matplotlib import pyplot as plt

PICTURE = Path(__file__).parent / "study.png"
NAME, TRIALS = "breast-cancer: boosting", 60
STEPS: list[tuple[str, str, dict[str, Any]]] = [
    ("data", "dataset", {}),
    ("split", "split", {"test_fraction": 0.3, "validation_fraction": 0.2}),
    ("train", "train_lightgbm", {"target": "target", "problem_type": "classification", "n_estimators": 40}),
]
SPACE: list[dict[str, Any]] = [
    {"node": "train", "name": "learning_rate", "type": "DOUBLE", "low": 0.01, "high": 1.0, "log": True},
    {"node": "train", "name": "num_leaves", "type": "INT", "low": 2, "high": 64, "log": True},
    {"node": "train", "name": "min_child_samples", "type": "INT", "low": 1, "high": 60},
    {"node": "train", "name": "reg_lambda", "type": "DOUBLE", "low": 0.001, "high": 30.0, "log": True},
]
VERSION = """{ datasets(filter: {name: {eq: "breast-cancer"}}, first: 1) { edges { node { currentVersion { id } } } } }"""
STUDIES = """query($name: String!) { studies(filter: {name: {eq: $name}}, first: 1) { edges { node { id } } } }"""
ENDED = """subscription($study: ID!) { studyTrials(id: $study) { study { status } } }"""
PLOTTED = """query($study: ID!) { study(id: $study) {
  name objective { metric goal } space { node name low high log } bestTrial { number } bestValues { trialNumber value }
  trials(first: 100, filter: {status: [COMPLETED]}, orderBy: {field: NUMBER, direction: ASC}) { edges { node { number parameters value } } } } }"""


async def load(url: str, token: str) -> dict[str, Any]:
    """Return what is plotted of the study, in one answer of the API."""
    api = Api(url, token)
    try:
        studies = (await api.execute(STUDIES, name=NAME))["edges"]
        study = studies[0]["node"]["id"] if studies else await _create(api)
        async for _ in api.subscribe(ENDED, study=study):
            pass
        return await api.execute(PLOTTED, study=study)
    finally:
        await api.close()


async def _create(api: Api) -> str:
    (dataset,) = (await api.execute(VERSION))["edges"]
    definition = {
        "nodes": [{"key": key, "step": step, "parameters": parameters} for key, step, parameters in STEPS],
        "links": [{"source": before[0], "target": after[0]} for before, after in itertools.pairwise(STEPS)],
    }
    created = await api.mutate(
        "createStudy",
        "study { id }",
        name=NAME,
        method="BAYESIAN",
        pipelineId=await api.find_or_create("pipeline", NAME, definition=definition),
        datasetVersionId=dataset["node"]["currentVersion"]["id"],
        objective={"metric": "validation_loss"},
        space=SPACE,
        budget={"maxTrials": TRIALS, "maxParallel": 2},
        seed=7,
    )
    return created["study"]["id"]


def draw(study: dict[str, Any]) -> None:
    """Draw the best value over the trials, and each trial as a line through its parameters and its value."""
    trials = [edge["node"] for edge in study["trials"]["edges"]]
    is_minimized, best_number = study["objective"]["goal"] == "MINIMIZE", study["bestTrial"]["number"]
    ranked = sorted(trials, key=lambda trial: trial["value"], reverse=is_minimized)
    colors = {trial["number"]: plt.get_cmap("viridis")(index / max(1, len(ranked) - 1)) for index, trial in enumerate(ranked)}
    figure, (values, lines) = plt.subplots(1, 2, figsize=(12, 4.2), width_ratios=(2, 3), layout="constrained")
    values.scatter(
        [trial["number"] for trial in trials],
        [trial["value"] for trial in trials],
        s=14,
        color=[colors[trial["number"]] for trial in trials],
    )
    best = study["bestValues"]
    last = max(trial["number"] for trial in trials)
    values.step(
        [*(each["trialNumber"] for each in best), last],
        [*(each["value"] for each in best), best[-1]["value"]],
        where="post",
        color="black",
        lw=1.2,
    )
    values.set(xlabel="trial", ylabel=study["objective"]["metric"], title="Trials, and the best so far", yscale="log")

    axes = [*(_Axis(f"{each['node']}.{each['name']}", each["low"], each["high"], is_log=each["log"]) for each in study["space"])]
    found = [trial["value"] for trial in trials]
    axes.append(_Axis(study["objective"]["metric"], min(found), max(found), is_log=min(found) > 0))
    for trial in ranked:
        is_best = trial["number"] == best_number
        points = [axis.share(trial["value"] if axis is axes[-1] else trial["parameters"][axis.name]) for axis in axes]
        color, width = ("crimson", 2.2) if is_best else (colors[trial["number"]], 0.9)
        lines.plot(range(len(axes)), points, color=color, lw=width, alpha=1.0 if is_best else 0.7)
    for position, axis in enumerate(axes):
        lines.axvline(position, color="0.3", lw=0.8)
        for share, end in ((-0.06, axis.low), (1.06, axis.high)):
            lines.text(position, share, f"{end:.3g}", ha="center", va="center", fontsize=8)
    lines.set_xticks(range(len(axes)), [axis.name.removeprefix("train.") for axis in axes], fontsize=9)
    lines.set(ylim=(-0.12, 1.12), yticks=[], title=f"Each trial; in red number {best_number}, the best")
    for side in ("left", "right", "top", "bottom"):
        lines.spines[side].set_visible(False)
    figure.savefig(PICTURE, dpi=110)  # pyright: ignore[reportUnknownMemberType] - a path of any kind


class _Axis:
    """A parameter or the metric: where its values lie between its ends."""

    def __init__(self, name: str, low: float, high: float, *, is_log: bool) -> None:
        self.name, self.low, self.high = name, low, high
        self._scale = math.log if is_log else float

    def share(self, value: float) -> float:
        low, high = self._scale(self.low), self._scale(self.high)
        return (self._scale(value) - low) / (high - low)


if __name__ == "__main__":
    draw(asyncio.run(load(*sys.argv[1:3])))
