"""Register files of external runs as versions of models. They are kept as they are, and never loaded here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import orjson
from sqlalchemy import Row, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.annotations import changed_annotations
from db.core.audit import ref
from db.core.checks import Checks
from db.core.policy import visible
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import Conflict, WrongState, invalid
from db.queries.artifacts import ARTIFACT, MODEL, SIGNATURE
from db.services import models, quota
from db.services.outputs import StoredFile, store_object
from db.services.predictions.signatures import PREDICTING_FORMATS
from db.services.tracking import model_files
from db.services.tracking.artifacts import check_path
from db.services.tracking.model_files import Description, ModelInput
from db.services.tracking.runs import PARAMETERS_BYTES, lock
from db.stores.objects import ObjectStore
from db.tables import Artifact, ModelDataset, ModelVersion, Run, StoredObject
from db.tables.datasets import ProblemType
from db.tables.models import ModelFormat

MAX_FILES = 1_000


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version of a model, named by its id or its name: the file of a run at `path`, or the folder. What is None is found out from the files."""

    run_id: UUID
    path: str
    model_id: UUID | None = None
    model_name: str | None = None
    format: ModelFormat | None = None
    framework: str | None = None
    algorithm: str | None = None
    problem_type: ProblemType | None = None
    inputs: Sequence[ModelInput] | None = None
    target: str | None = None
    classes: Sequence[Any] | None = None
    hyperparameters: Any = None
    label: str | None = None
    description: str | None = None
    annotations: Any = None


async def register(database: Database, objects: ObjectStore, viewer: Viewer, new: NewVersion) -> UUID:
    """Register a version; its files are added to it under their paths in the folder. A model of the name is created if there is none.

    No transaction is open while the store is read. Raises `NotFound`, `InvalidInput`, `WrongState` for the run of a job, `Conflict` for a model of another
    problem type, or `QuotaExceeded`.
    """
    viewer.require_write()
    _check(new)
    async with database.work(viewer) as work:
        files = await _files(work, new)
    description = await _describe(objects, new, files)
    signature = await _write_signature(objects, files[0].owner_id, description)
    needless: list[str] = []
    try:
        async with database.work(viewer) as work:
            version_id = await _register(work, new, files, description, signature, needless)
    except BaseException:
        if signature is not None:
            await objects.delete([signature.key])
        raise
    await objects.delete(needless)
    return version_id


def _check(new: NewVersion) -> None:
    checks = Checks()
    check_path(checks, new.path, "artifactPath")
    if (new.model_id is None) == (new.model_name is None):
        checks.add("modelName", message="Name the model either by `modelName`, which makes a missing one, or by `modelId`.")
    if new.model_name is not None:
        checks.name(new.model_name, "modelName")
    for name, value in (("label", new.label), ("framework", new.framework), ("algorithm", new.algorithm), ("target", new.target)):
        if value is not None:
            checks.name(value, name)
    names = [each.name for each in new.inputs or ()]
    for position, name in enumerate(names[: model_files.MAX_INPUTS]):
        checks.name(name, "inputs", str(position), "name")
    if len({*names}) < len(names) or len(names) > model_files.MAX_INPUTS:
        checks.add("inputs", message=f"A model takes each column once, and at most {model_files.MAX_INPUTS:,} columns.")
    for position, each in enumerate(new.classes or ()):
        if not isinstance(each, str | int | float):
            checks.add("classes", str(position), message="A class is a text, a number or a truth value.")
        elif isinstance(each, str):
            checks.text(each, "classes", str(position), length=1_000)
    if len(new.classes or ()) > model_files.MAX_INPUTS:
        checks.add("classes", message=f"At most {model_files.MAX_INPUTS:,} classes are kept.")
    checks.document(new.hyperparameters, "hyperparameters", size=PARAMETERS_BYTES)
    checks.text(new.description, "description")
    changed_annotations(checks, {}, new.annotations)
    checks.raise_if_invalid()


async def _files(work: Work, new: NewVersion) -> Sequence[Row[Any]]:
    """The files at the path, with their places in the folder. Raises `InvalidInput` where there are none, or too many."""
    await lock(work, new.run_id)
    below = f"{new.path}/"
    is_there = (Artifact.path == new.path) | Artifact.path.startswith(below, autoescape=True)
    place = func.coalesce(func.nullif(func.substr(Artifact.path, len(below) + 1), ""), Artifact.filename)
    columns = (Artifact.id, Artifact.owner_id, Artifact.object_id, Artifact.filename, Artifact.content_type, place.label("place"))
    statement = (
        select(*columns, StoredObject.object_key, StoredObject.size_bytes)
        .join(StoredObject, StoredObject.id == Artifact.object_id)
        .where(Artifact.run_id == new.run_id, Artifact.role == ARTIFACT, is_there, visible(Artifact, work.viewer))
    )
    files = await work.all(statement.order_by(Artifact.path).limit(MAX_FILES + 1))
    if not files:
        raise invalid(
            "artifactPath", message="The run has no file at this path, nor in a folder there. `Run.artifacts` lists what has arrived."
        )
    if len(files) > MAX_FILES:
        raise invalid("artifactPath", message=f"A version has at most {MAX_FILES:,} files. Name the folder of the model alone.")
    return files


async def _describe(objects: ObjectStore, new: NewVersion, files: Sequence[Row[Any]]) -> Description:
    """What the files say, and over that what the caller says. Raises `InvalidInput` for a format that the file does not have."""
    by_place = {file.place: file for file in files}
    mlmodel: Mapping[str, Any] = {}
    about = by_place.get(model_files.MLMODEL)
    if about is not None and about.size_bytes <= model_files.MLMODEL_BYTES and len(files) > 1:
        mlmodel = await asyncio.to_thread(model_files.parse_mlmodel, await objects.read(about.object_key, model_files.MLMODEL_BYTES))
    main = by_place[model_files.main_file({file.place: file.size_bytes for file in files}, mlmodel)]
    head = await objects.read(main.object_key, model_files.HEAD_BYTES)
    found = model_files.sniff(head, main.filename)
    if new.format is not None and new.format not in {found, ModelFormat.OPAQUE}:
        told = f"{main.place!r} is {found.name}" if found is not ModelFormat.OPAQUE else f"{main.place!r} is in no format that is known"
        raise invalid(
            "format", message=f"{told}, by its first bytes and its name, and not {new.format.name}. Leave `format` out, or say OPAQUE."
        )
    format_ = new.format or found
    tail = b""
    if format_ is ModelFormat.SKOPS:
        length = min(main.size_bytes, model_files.TAIL_BYTES)
        tail = b"".join([chunk async for chunk in objects.stream(main.object_key, main.size_bytes - length, length)])
    described = await asyncio.to_thread(model_files.describe, format_, head, tail, main.size_bytes, mlmodel)
    return replace(
        described,
        main=main.place,
        algorithm=new.algorithm or described.algorithm,
        framework=new.framework or described.framework,
        problem_type=new.problem_type or described.problem_type,
        inputs=described.inputs if new.inputs is None else new.inputs,
        target=new.target,
        classes=described.classes if new.classes is None else new.classes,
    )


async def _write_signature(objects: ObjectStore, owner_id: UUID, description: Description) -> StoredFile | None:
    """Store the signature by which a model of a format that cannot run code predicts; None where it cannot. One that is forgotten is swept."""
    document = description.signature
    if document is None or description.format not in PREDICTING_FORMATS:
        return None
    content = orjson.dumps(document)
    key = f"models/{owner_id}/{uuid4()}"
    await objects.write(key, content, "application/json")
    return StoredFile(key, len(content), hashlib.sha256(content).hexdigest(), SIGNATURE, "signature.json", "application/json")


async def _register(
    work: Work, new: NewVersion, files: Sequence[Row[Any]], description: Description, signature: StoredFile | None, needless: list[str]
) -> UUID:
    run = await _lock_run(work, new.run_id)
    if {file.id for file in await _files(work, new)} != {file.id for file in files}:
        raise WrongState("CHANGED", "The files changed while they were registered. Register them again.")
    checks = Checks()
    hyperparameters = run.hyperparameters if new.hyperparameters is None else checks.document(new.hyperparameters)
    framework, version = description.framework or model_files.UNKNOWN, description.framework_version
    model_id = await _model(work, new, run, description.problem_type)
    values = {
        "model_id": model_id,
        "number": await models.next_number(work, model_id),
        "label": None if new.label is None else checks.name(new.label),
        "description": new.description,
        "annotations": changed_annotations(checks, {}, new.annotations),
        "algorithm": description.algorithm or run.annotations.get("estimator_name") or model_files.UNKNOWN,
        "framework": framework,
        "problem_type": description.problem_type,
        "metrics": await models.metric_summaries(work, run.id),
        "hyperparameters": hyperparameters,
        "packages": {} if version is None else {framework: version},
        "format": description.format,
        "is_trusted": False,
        "run_id": run.id,
        "dataset_version_id": run.dataset_version_id,
    }
    version_id: UUID = await work.scalar(insert(ModelVersion).values(values).returning(ModelVersion.id))
    if run.dataset_id is not None:
        await work.run(upsert(ModelDataset).values(model_id=model_id, dataset_id=run.dataset_id).on_conflict_do_nothing())
    rows = [
        {
            "owner_id": run.owner_id,
            "object_id": file.object_id,
            "model_version_id": version_id,
            "path": file.place,
            "role": MODEL if file.place == description.main else ARTIFACT,
            "filename": file.filename,
            "content_type": file.content_type,
        }
        for file in files
    ]
    if signature is not None:
        object_id, stored_key = await store_object(work, run.owner_id, signature)
        if stored_key != signature.key:
            needless.append(signature.key)
        described = {"filename": signature.filename, "content_type": signature.content_type, "role": signature.role, "path": None}
        rows.append({"owner_id": run.owner_id, "object_id": object_id, "model_version_id": version_id, **described})
    await work.run(insert(Artifact), rows)
    quota.check_before_commit(work, run.owner_id)
    after = {"model": ref("model", model_id), "number": values["number"], "run": ref("run", run.id), "path": new.path, "files": len(files)}
    work.record("register_model_version", "mversion", version_id, run.owner_id, after={**after, "format": description.format.name})
    return version_id


async def _lock_run(work: Work, run_id: UUID) -> Row[Any]:
    await lock(work, run_id)
    columns = (Run.id, Run.owner_id, Run.dataset_id, Run.dataset_version_id, Run.hyperparameters, Run.annotations)
    return await work.one(select(*columns).where(Run.id == run_id))


async def _model(work: Work, new: NewVersion, run: Row[Any], problem_type: ProblemType | None) -> UUID:
    """The model, of the run's owner; its row is locked."""
    name = new.model_name
    if new.model_id is not None:
        model = await models.lock(work, new.model_id)
        if model.owner_id != run.owner_id:
            raise invalid("modelId", message="This model belongs to another account than the run. Register within one account.")
        name = model.name
    assert name is not None
    try:
        return await models.ensure_model(work, run.owner_id, work.viewer.maker_id, problem_type, Checks().name(name))
    except Conflict:
        told = "" if problem_type is None else f", and these files are of a {problem_type.name} model"
        raise Conflict(
            f"The model {name!r} has another problem type{told}; all versions of a model have one problem type. Register them under another name."
        ) from None
