"""A session of models with an unmodified client; prints what it read back, as JSON."""
# pyright: reportMissingImports=false, reportMissingParameterType=false

import json

import lightgbm
import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression

is_3 = mlflow.__version__.startswith("3")
rows = pd.DataFrame(np.random.default_rng(3).normal(size=(120, 2)), columns=["width", "height"])
labels = np.where(rows["width"] + rows["height"] > 0, "large", "small")
sizes = rows["width"] * 2 - rows["height"] + 5
client = MlflowClient()
mlflow.set_experiment("models")


def named(name):
    return {"name": name} if is_3 else {"artifact_path": name}


def logged(flavor, model, name, **more):
    return getattr(mlflow, flavor).log_model(model, **named(name), input_example=rows[:2], pip_requirements=["numpy"], **more)


with mlflow.start_run(run_name="forest") as forest_run:
    forest = RandomForestClassifier(n_estimators=5, random_state=0).fit(rows, labels)
    mlflow.log_metric("accuracy", 0.75)
    mlflow.log_param("trees", 5)
    trusted = {"skops_trusted_types": ["sklearn.tree._tree.Tree", "numpy.dtype"]} if is_3 else {}
    info = logged("sklearn", forest, "forest", registered_model_name="forests", **trusted)
with mlflow.start_run(run_name="booster") as booster_run:
    booster = lightgbm.train({"objective": "binary", "verbose": -1, "num_leaves": 4}, lightgbm.Dataset(rows, labels == "large"), 5)
    second = logged("lightgbm", booster, "booster")
version = mlflow.register_model(f"runs:/{booster_run.info.run_id}/booster", "boosters", tags={"stage": "draft"})
with mlflow.start_run(run_name="line") as line_run:
    line = LinearRegression().fit(rows, sizes)
    third = logged("sklearn", line, "line")
other_task = ""
try:
    mlflow.register_model(third.model_uri, "forests")
except mlflow.MlflowException as error:
    other_task = str(error)
mlflow.register_model(third.model_uri, "lines")
client.set_registered_model_alias("forests", "champion", "1")
client.set_registered_model_tag("forests", "team", "a")
client.set_model_version_tag("forests", "1", "checked", "yes")
client.update_model_version("forests", "1", "A small forest.")
client.update_registered_model("forests", "Forests and a line.")
client.create_registered_model("empty", tags={"a": "b"}, description="nothing yet")
client.rename_registered_model("empty", "renamed")
client.delete_registered_model_tag("renamed", "a")
client.set_registered_model_alias("boosters", "gone", 1)
client.delete_registered_model_alias("boosters", "gone")
again = mlflow.sklearn.load_model("models:/forests@champion")
by_run = mlflow.pyfunc.load_model(f"runs:/{booster_run.info.run_id}/booster")
by_version = mlflow.lightgbm.load_model("models:/boosters/1")
latest = mlflow.pyfunc.load_model("models:/lines/latest")
forests = client.get_registered_model("forests")
one = client.get_model_version("forests", "1")
try:
    client.get_model_version("forests", 9)
    missing = None
except mlflow.MlflowException as error:
    missing = error.error_code
print(
    json.dumps(
        {
            "forest": [forest_run.info.run_id, bool((again.predict(rows) == forest.predict(rows)).all())],
            "probabilities": bool((again.predict_proba(rows) == forest.predict_proba(rows)).all()),
            "booster": [booster_run.info.run_id, bool((by_run.predict(rows) == booster.predict(rows)).all())],
            "by_version": bool((by_version.predict(rows) == booster.predict(rows)).all()),
            "latest": bool(np.allclose(latest.predict(rows), line.predict(rows))),
            "alias": client.get_model_version_by_alias("forests", "champion").version,
            "model": [forests.description, forests.tags, forests.aliases, [each.version for each in forests.latest_versions]],
            "version": [one.description, one.tags, one.run_id, one.status, list(one.aliases)],
            "tags": client.get_model_version("boosters", version.version).tags,
            "models": [each.name for each in client.search_registered_models()],
            "found": [each.name for each in client.search_registered_models("name LIKE 'for%'")],
            "versions": [f"{each.name} {each.version}" for each in client.search_model_versions("name = 'forests'")],
            "of_run": [f"{each.name} {each.version}" for each in client.search_model_versions(f"run_id = '{booster_run.info.run_id}'")],
            "outputs": [each.model_id for each in client.get_run(forest_run.info.run_id).outputs.model_outputs]
            if is_3
            else [info.model_id]
            if hasattr(info, "model_id")
            else [],
            "logged": [info.model_id] if is_3 else [],
            "searched": [each.name for each in mlflow.search_logged_models(output_format="list")] if is_3 else [],
            "missing": missing,
            "other_task": other_task,
            "copied": [
                client.copy_model_version("models:/forests/1", "archive").version,
                bool((mlflow.sklearn.load_model("models:/archive/1").predict(rows) == forest.predict(rows)).all()),
            ],
        }
    )
)
