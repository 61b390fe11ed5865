"""A session of files with an unmodified client; prints what it read back, as JSON."""
# pyright: reportMissingImports=false, reportMissingParameterType=false

import hashlib
import json
import random
import tempfile
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

folder = Path(tempfile.mkdtemp())
large = random.Random(1).randbytes(3 * 1024 * 1024 + 7)
(folder / "sub" / "deep").mkdir(parents=True)
(folder / "weights.bin").write_bytes(large)
(folder / "empty").write_bytes(b"")
(folder / "sub" / "a b ü.txt").write_text("one")
(folder / "sub" / "deep" / "c.csv").write_text("x,y\n1,2\n")
client = MlflowClient()
mlflow.set_experiment("files")
with mlflow.start_run() as run:
    mlflow.log_artifact(str(folder / "weights.bin"))
    mlflow.log_artifacts(str(folder), "all")
    mlflow.log_text("a text", "notes/a.txt")
    mlflow.log_text("another text", "notes/a.txt")
    mlflow.log_dict({"a": 1}, "notes/d.json")
    if hasattr(mlflow, "log_image"):
        mlflow.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "black.png")
    mlflow.log_text("gone", "gone.txt")
    before = [[file.path, file.is_dir, file.file_size] for file in client.list_artifacts(run.info.run_id)]
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: E402

get_artifact_repository(run.info.artifact_uri).delete_artifacts("gone.txt")


def listed(path=None):
    return [[file.path, file.is_dir, file.file_size] for file in client.list_artifacts(run.info.run_id, path)]


downloaded = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="all", dst_path=tempfile.mkdtemp()))
read = {
    str(file.relative_to(downloaded)): hashlib.sha256(file.read_bytes()).hexdigest() for file in downloaded.rglob("*") if file.is_file()
}
sent = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.rglob("*") if file.is_file()}
try:
    mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="absent.txt")
    missing = ""
except (MlflowException, OSError) as error:  # the one or the other by version
    missing = str(error)
print(
    json.dumps(
        {
            "run": run.info.run_id,
            "before": before,
            "root": listed(),
            "all": listed("all"),
            "sub": listed("all/sub"),
            "file": listed("notes/a.txt"),
            "same": read == sent,
            "text": mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/a.txt"),
            "dict": mlflow.artifacts.load_dict(run.info.artifact_uri + "/notes/d.json"),
            "missing": missing,
        }
    )
)
