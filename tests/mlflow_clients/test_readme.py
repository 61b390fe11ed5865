"""The script of the README's "Bring your own code" runs as it stands, and its run is that of the graph."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.client import Client
from tests.mlflow_clients.conftest import run_script

pytestmark = pytest.mark.exhaustive

TAB = Path(__file__).parents[2] / "server/console/src/tabs/7-track.graphql"
README = Path(__file__).parents[2] / "README.md"
RUNS = """{ runs { edges { node { name status source hyperparameters annotations experiment { name } metrics { key last } inputs { context }
  artifacts(first: 50) { edges { node { path } } } } } } }"""


@pytest.mark.timeout(240)
async def test_the_script_of_the_readme_runs_as_it_stands(ada: Client, tmp_path: Path) -> None:
    section = README.read_text().partition("## Bring your own code")[2].partition("\n## ")[0]
    (script,) = (block for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL) if "mlflow.autolog()" in block)
    assert len([line for line in script.splitlines() if line]) <= 15
    (tmp_path / "script.py").write_text(script)
    score = await run_script(ada, str(tmp_path / "script.py"))
    ((run,)) = (edge["node"] for edge in (await ada.one(RUNS))["edges"])
    assert (run["name"], run["status"], run["source"], run["experiment"]) == ("forest", "COMPLETED", "EXTERNAL", {"name": "tumours"})
    assert (run["hyperparameters"]["n_estimators"], run["annotations"]["estimator_name"]) == (20, "RandomForestClassifier")
    metrics = {metric["key"]: metric["last"] for metric in run["metrics"]}
    assert metrics["RandomForestClassifier_score_test_rows"] == pytest.approx(score, abs=1e-12)
    assert 0.9 < metrics["training_score"] <= 1
    assert sorted(each["context"] for each in run["inputs"]) == ["train"]
    tab = TAB.read_text().partition("subscription")
    listed = (await ada.one(tab[0]))["edges"]
    assert [(edge["node"]["name"], edge["node"]["status"]) for edge in listed] == [("forest", "COMPLETED")]
    shown = await ada.one("query ShowRun" + tab[2].partition("query ShowRun")[2], runId=listed[0]["node"]["id"])
    assert shown["hyperparameters"] == run["hyperparameters"]
    names = {edge["node"]["path"].rpartition("/")[2] for edge in run["artifacts"]["edges"]}
    assert names >= {"MLmodel", "requirements.txt", "estimator.html"}
