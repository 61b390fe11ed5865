"""Studies of Optuna that its own callback for MLflow logs, each trial a run; prints what it read back and what was asked, as JSON."""
# pyright: reportMissingImports=false, reportMissingParameterType=false, reportAttributeAccessIssue=false, reportUntypedFunctionDecorator=false

import json
import warnings

import mlflow
import optuna
import requests
from optuna_integration.mlflow import MLflowCallback

warnings.simplefilter("ignore")  # the callback is to be replaced in Optuna 6
optuna.logging.set_verbosity(optuna.logging.ERROR)
asked, send = [], requests.Session.send


def recorded(session, request, **named):
    answer = send(session, request, **named)
    path = request.path_url.partition("?")[0]
    code = answer.json().get("error_code", "") if answer.status_code >= 400 else ""
    asked.append([request.method, path, answer.status_code, code])
    return answer


requests.Session.send = recorded


def values_of(study):
    return sorted([str(trial.number), trial.state.name, trial.value, trial.params["x"]] for trial in study.trials)


def values_in(frame):
    return sorted(
        [row["tags.mlflow.runName"], row["tags.state"].rpartition(".")[2], row["metrics.square"], float(row["params.x"])]
        for _, row in frame.iterrows()
    )


callback = MLflowCallback(metric_name="square")


@callback.track_in_mlflow()
def objective(trial):
    x = trial.suggest_float("x", -5.0, 5.0)
    mlflow.log_metric("twice", 2 * x)
    for step in range(3):
        mlflow.log_metric("loss", x * x + step, step=step)
    mlflow.log_text(str(x), "x.txt")
    return (x - 1) ** 2


study = optuna.create_study(study_name="of optuna", sampler=optuna.samplers.RandomSampler(seed=3))
study.optimize(objective, n_trials=6, callbacks=[callback])
found = mlflow.search_runs(experiment_names=["of optuna"])

mlflow.set_experiment("nested")
nested = MLflowCallback(metric_name="square", create_experiment=False, mlflow_kwargs={"nested": True})
second = optuna.create_study(study_name="nested", direction="maximize", sampler=optuna.samplers.RandomSampler(seed=4))
with mlflow.start_run(run_name="parent") as parent:
    second.optimize(lambda trial: -(trial.suggest_float("x", -5.0, 5.0) ** 2), n_trials=4, callbacks=[nested])
    mlflow.log_metric("best", second.best_value)
children = mlflow.search_runs(filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
best = mlflow.search_runs(experiment_names=["of optuna"], order_by=["metrics.square ASC"], max_results=1)
print(
    json.dumps(
        {
            "study": values_of(study),
            "found": values_in(found),
            "nested": values_of(second),
            "children": values_in(children),
            "best": [best["tags.mlflow.runName"][0], str(study.best_trial.number)],
            "twice": sorted(found["metrics.twice"]) == sorted(2 * trial.params["x"] for trial in study.trials),
            "runs": sorted(found["run_id"]),
            "parent": parent.info.run_id,
            "asked": asked,
        }
    )
)
