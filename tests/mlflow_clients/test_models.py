"""Models that MLflow's clients log and register are loaded back to the same predictions, and are models of the graph."""

from __future__ import annotations

import pytest

from tests.client import Client
from tests.mlflow_clients.conftest import run_script

pytestmark = pytest.mark.exhaustive

MODELS = """{ models { edges { node { name problemType versions { edges { node { number description format isTrusted algorithm framework run { id }
  aliases { name } metrics { key last } hyperparameters artifacts { path role } } } } } } } }"""


@pytest.mark.parametrize("major", [3, 2])
async def test_a_logged_model_is_registered_aliased_and_loaded_back(ada: Client, bob: Client, major: int) -> None:
    told = await run_script(ada, "models.py", major=major)
    assert told["forest"][1]
    assert told["probabilities"]
    assert told["booster"][1]
    assert told["by_version"]
    assert told["latest"]
    assert (told["alias"], told["missing"]) == ("1", "RESOURCE_DOES_NOT_EXIST")
    assert told["model"] == ["Forests and a line.", {"team": "a"}, {"champion": "1"}, ["1"]]
    assert told["version"] == ["A small forest.", {"checked": "yes"}, told["forest"][0], "READY", ["champion"]]
    assert told["tags"] == {"stage": "draft"}
    assert told["models"] == ["boosters", "forests", "lines", "renamed"]
    assert (told["found"], told["versions"], told["of_run"]) == (["forests"], ["forests 1"], ["boosters 1"])
    assert "all versions of a model have one problem type" in told["other_task"]
    assert told["copied"] == ["1", True]
    assert told["outputs"] == told["logged"]
    assert told["searched"] == (["line", "booster", "forest"] if major == 3 else [])

    edges = (await ada.one(MODELS))["edges"]
    models = {edge["node"]["name"]: [version["node"] for version in edge["node"]["versions"]["edges"]] for edge in edges}
    assert {name: len(versions) for name, versions in models.items()} == {
        "archive": 1,
        "boosters": 1,
        "forests": 1,
        "lines": 1,
        "renamed": 0,
    }
    forest, booster = models["forests"][0], models["boosters"][0]
    assert (forest["number"], forest["description"], forest["isTrusted"], forest["run"]["id"]) == (
        1,
        "A small forest.",
        False,
        told["forest"][0],
    )
    assert [alias["name"] for alias in forest["aliases"]] == ["champion"]
    assert forest["metrics"] == [{"key": "accuracy", "last": 0.75}]
    assert forest["hyperparameters"] == {"trees": 5}
    assert (forest["framework"].split()[0], booster["framework"].split()[0], booster["format"]) == ("scikit-learn", "lightgbm", "LIGHTGBM")
    assert "MLmodel" in {file["path"] for file in forest["artifacts"]}
    assert [file["path"] for file in booster["artifacts"] if file["role"] == "MODEL"] == ["model.lgb"]
    if major == 3:
        assert (forest["format"], forest["algorithm"]) == ("SKOPS", "RandomForestClassifier")
    assert (await bob.one(MODELS))["edges"] == []
