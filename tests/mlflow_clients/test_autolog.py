"""Autologging, nested runs, frames of runs and the command line of unmodified clients: each call that they make is answered."""

from __future__ import annotations

import pytest

from tests.client import Client
from tests.mlflow_clients.conftest import run_script

pytestmark = pytest.mark.exhaustive


@pytest.mark.timeout(400)
@pytest.mark.parametrize("major", [3, 2])
async def test_what_frameworks_log_by_themselves_is_read_back(ada: Client, major: int, capsys: pytest.CaptureFixture[str]) -> None:
    told = await run_script(ada, "autolog.py", major=major)
    assert told["frame"] == [True, True]
    assert told["nan"] == 1
    assert told["children"] == ["0.1", "1.0", "10.0"]
    assert {"best_cv_score", "training_r2_score"} <= set(told["search"])
    assert (told["boosted"], told["history"]) == ("4", 12)
    assert "feature_importance_gain.json" in told["files"]
    assert (told["listed"], told["experiments"], told["csv"], told["shown"]) == (True, True, True, True)
    rejected = [line for line in capsys.readouterr().out.splitlines() if "request_rejected" in line]
    assert [line for line in rejected if "RESOURCE_DOES_NOT_EXIST" not in line] == [], "only what is looked for before it is made"
