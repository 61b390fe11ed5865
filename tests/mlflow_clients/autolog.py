"""Autologging of two libraries with an unmodified client, nested runs, a frame of what was logged and the command line; prints what it read back, as JSON."""
# pyright: reportMissingImports=false, reportMissingParameterType=false

import json
import os
import subprocess
import sys

import lightgbm
import mlflow
import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

rows = pd.DataFrame(np.random.default_rng(1).normal(size=(80, 3)), columns=["a", "b", "c"])
target = rows["a"] * 2 - rows["b"]
mlflow.set_experiment("automatic")
mlflow.sklearn.autolog(max_tuning_runs=3)
with mlflow.start_run(run_name="search") as search:
    GridSearchCV(Ridge(), {"alpha": [0.1, 1.0, 10.0]}, cv=2).fit(rows, target)
mlflow.sklearn.autolog(disable=True)
mlflow.lightgbm.autolog()
with mlflow.start_run(run_name="boosted") as boosted:
    data = lightgbm.Dataset(rows, target)
    lightgbm.train(
        {"objective": "regression", "num_leaves": 4, "verbose": -1, "metric": "rmse"}, data, 12, valid_sets=[data], valid_names=["train"]
    )
mlflow.lightgbm.autolog(disable=True)
logged = {}
for number in range(5):
    with mlflow.start_run(run_name=f"by hand {number}") as run:
        mlflow.log_params({"depth": number, "rate": number / 10})
        mlflow.log_metrics({"loss": 1 / (number + 1), "diverged": float("nan") if number == 2 else float(number)})
        logged[run.info.run_id] = [str(number), str(number / 10), 1 / (number + 1)]
frame = mlflow.search_runs(filter_string="attributes.run_name LIKE 'by hand%'", order_by=["metrics.loss ASC"])
found = frame.set_index("run_id")[["params.depth", "params.rate", "metrics.loss"]].T.to_dict("list")
children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{search.info.run_id}'")
client = mlflow.MlflowClient()


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "mlflow", *arguments], capture_output=True, text=True, check=True, env=os.environ.copy()
    ).stdout


experiment = search.info.experiment_id
print(
    json.dumps(
        {
            "frame": [found == logged, frame["metrics.loss"].tolist() == sorted(frame["metrics.loss"])],
            "nan": int(frame["metrics.diverged"].isna().sum()),
            "children": sorted(children["params.alpha"].tolist()),
            "search": sorted(client.get_run(search.info.run_id).data.metrics),
            "boosted": client.get_run(boosted.info.run_id).data.params["num_leaves"],
            "history": len(client.get_metric_history(boosted.info.run_id, "train-rmse")),
            "files": sorted(file.path for file in client.list_artifacts(boosted.info.run_id)),
            "listed": "by hand 3" in command("runs", "list", "--experiment-id", experiment),
            "experiments": "automatic" in command("experiments", "search"),
            "csv": len(command("experiments", "csv", "--experiment-id", experiment).strip().splitlines()) >= 10,
            "shown": "num_leaves" in command("runs", "describe", "--run-id", boosted.info.run_id),
        }
    )
)
