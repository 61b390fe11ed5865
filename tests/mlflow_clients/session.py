"""A session of runs with an unmodified client; prints what it read back, as JSON."""
# pyright: reportMissingImports=false, reportMissingParameterType=false

import json
import math

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

mlflow.set_experiment("tracked")
with mlflow.start_run(run_name="first", tags={"team": "a"}, description="a note") as run:
    mlflow.log_param("alpha", 0.1)
    mlflow.log_params({"depth": 3, "kind": "tree", "text": "1e-3", "flag": True, "nothing": None, "ratio": 1.0})
    for step in range(5):
        mlflow.log_metric("loss", 1 / (step + 1), step=step)
    mlflow.log_metrics({"accuracy": 0.9, "nan": math.nan, "infinite": -math.inf})
    with mlflow.start_run(run_name="inner", nested=True) as child:
        mlflow.log_metric("loss", 0.5)
failed = mlflow.start_run(run_name="failed")
mlflow.end_run("FAILED")
client = MlflowClient()
client.set_tag(failed.info.run_id, "gone", "soon")
client.delete_tag(failed.info.run_id, "gone")
client.set_experiment_tag(run.info.experiment_id, "stage", "draft")


def told(run_id):
    read = client.get_run(run_id)
    metrics = {key: repr(value) for key, value in read.data.metrics.items()}
    tags = {key: value for key, value in read.data.tags.items() if not key.startswith("mlflow.source") and key != "mlflow.user"}
    times = read.info.end_time is not None and read.info.start_time <= read.info.end_time
    return {
        "status": read.info.status,
        "params": read.data.params,
        "metrics": metrics,
        "tags": tags,
        "times": times,
        "name": read.info.run_name,
    }


def message(function, *arguments):
    try:
        function(*arguments)
    except MlflowException as error:
        return [error.error_code, str(error).splitlines()[0]]
    return None


frame = mlflow.search_runs(filter_string="metrics.loss < 0.3 and params.depth = '3' and tags.team LIKE 'a%'", order_by=["metrics.loss ASC"])
every = mlflow.search_runs(order_by=["attributes.run_name ASC"])
print(
    json.dumps(
        {
            "run": run.info.run_id,
            "child": child.info.run_id,
            "failed": failed.info.run_id,
            "experiment": run.info.experiment_id,
            "first": told(run.info.run_id),
            "inner": told(child.info.run_id),
            "ended": told(failed.info.run_id),
            "history": [[point.step, point.value] for point in client.get_metric_history(run.info.run_id, "loss")],
            "found": frame[["run_id", "metrics.loss", "params.depth", "tags.team"]].values.tolist(),
            "names": every["tags.mlflow.runName"].tolist(),
            "experiments": [found.name for found in client.search_experiments(filter_string="name LIKE 'track%'")],
            "tags": client.get_experiment(run.info.experiment_id).tags,
            "by_name": client.get_experiment_by_name("tracked").experiment_id,
            "changed": message(client.log_param, run.info.run_id, "alpha", 0.2),
            "unknown": message(client.get_run, "run_" + "0" * 32),
        }
    )
)
