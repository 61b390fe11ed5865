"""A file that an unmodified client sends in parts, and one of which a part fails; prints what it read back, as JSON."""
# pyright: reportMissingImports=false, reportMissingParameterType=false

import hashlib
import json
import random
import sys
import tempfile
from pathlib import Path

import mlflow
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository

size = int(sys.argv[1])
folder = Path(tempfile.mkdtemp())
block, generator = 1024 * 1024, random.Random(5)
with (folder / "large.bin").open("wb") as file:
    for start in range(0, size, block):
        file.write(generator.randbytes(min(block, size - start)))


def digest(path):
    with Path(path).open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


upload_part, sent = HttpArtifactRepository._upload_part, []


def recorded(credential, *arguments, **named):
    sent.append(credential.part_number)
    return upload_part(credential, *arguments, **named)


def refused(credential, *arguments, **named):
    if credential.part_number == 2:
        raise OSError("This part was refused.")
    return upload_part(credential, *arguments, **named)


mlflow.set_experiment("large")
with mlflow.start_run() as run:
    HttpArtifactRepository._upload_part = staticmethod(recorded)
    mlflow.log_artifact(str(folder / "large.bin"), "weights")
    HttpArtifactRepository._upload_part = staticmethod(refused)
    try:
        mlflow.log_artifact(str(folder / "large.bin"), "failed")
        failed = ""
    except Exception as error:  # noqa: BLE001 whatever the client makes of it
        failed = str(error)
path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="weights/large.bin", dst_path=tempfile.mkdtemp())
print(
    json.dumps({"run": run.info.run_id, "parts": len(sent), "sent": digest(folder / "large.bin"), "read": digest(path), "failed": failed})
)
