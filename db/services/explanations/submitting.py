"""Submit explanations: compare what is asked for with what the model is and takes, then create the explanation and its job."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, literal, select, update

from db.core.audit import ref
from db.core.checks import Checks, composed
from db.core.viewer import Viewer
from db.core.work import Database, Work
from db.errors import NotFound, WrongState
from db.services import extras, idempotency, jobs
from db.services.explanations.methods import DEFAULT_ROWS, ExplainedModel, check_options, require_supported
from db.services.explanations.requests import NewExplanation
from db.services.explanations.sources import check_source, find_source
from db.services.predictions.inputs import check_rows
from db.services.predictions.signatures import Signature, load_model, needed_extras, read_signature
from db.stores.objects import ObjectStore
from db.tables import Explanation, JobDocument
from db.tables.jobs import JobKind
from db.tables.jobstates import JobStatus

OPERATION = "createExplanation"
DEFAULT_SEED = 0


async def _follow_retry(work: Work, old: Row[Any], new: Row[Any]) -> None:
    """Let the explanation follow the new job, with the rows of the old one. Raises `WrongState` if that is done, or cannot be done again."""
    explanation_id = old.parameters.get("explanationId")
    if explanation_id is None:  # a purged job has no parameters
        return
    if old.status is JobStatus.COMPLETED:
        raise WrongState(old.status.name, "The explanation is complete. Make another one with `createExplanation`.")
    try:
        await load_model(work, new.model_version_id)
    except NotFound:
        raise WrongState(old.status.name, "The model that this job explains was deleted, so it cannot be done again.") from None
    is_followed = (Explanation.id == UUID(explanation_id)) & (Explanation.job_id == old.id)
    if not await work.run(update(Explanation).where(is_followed).values(job_id=new.id)):
        message = "Its explanation was deleted, or another job makes it. Make another one with `createExplanation`."
        raise WrongState(old.status.name, message)
    rows = select(literal(new.id), JobDocument.input).where(JobDocument.job_id == old.id, JobDocument.input.is_not(None))
    await work.run(insert(JobDocument).from_select(["job_id", "input"], rows))


KIND = jobs.declare(jobs.JobKindSpec(JobKind.EXPLAIN, title="explanation", outputs=(Explanation,), on_retry=_follow_retry))


async def create(database: Database, objects: ObjectStore, viewer: Viewer, new: NewExplanation) -> tuple[UUID, UUID]:
    """Submit the job of an explanation; return the ids of explanation and job. No transaction is open while the signature is read.

    Raises `NotFound`, `InvalidInput`, `WrongState`, `Unsupported`, `Conflict` or `QuotaExceeded`; the end of the unit of work
    `InsufficientCredits`.
    """
    viewer.require_write()
    request = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request, claim=False)
        if stored_answer is not None:
            return UUID(stored_answer["explanation"]), UUID(stored_answer["job"])
        model = await load_model(work, new.model_version_id)
    signature = await read_signature(objects, model)
    name = f"{model.name} v{model.number}"
    require_supported(new.method, ExplainedModel(name, model.algorithm, model.format, model.problem_type), signature)
    checks = Checks()
    check_source(checks, new)
    check_options(checks, new.method, signature, new.features, new.class_label, new.max_rows)
    rows = None if not new.rows else await asyncio.to_thread(check_rows, checks, new.rows, signature)
    checks.raise_if_invalid()
    async with database.work(viewer) as work:
        stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request)
        if stored_answer is not None:
            return UUID(stored_answer["explanation"]), UUID(stored_answer["job"])
        explanation_id, job_id = await _submit(work, new, signature, rows)
        await idempotency.remember(work, new.idempotency_key, {"explanation": str(explanation_id), "job": str(job_id)})
    return explanation_id, job_id


async def _submit(work: Work, new: NewExplanation, signature: Signature, rows: list[Any] | None) -> tuple[UUID, UUID]:
    model = await load_model(work, new.model_version_id)
    checks = Checks()
    source = await find_source(work, new, model, signature, checks)
    checks.raise_if_invalid()
    explanation_id: UUID = await work.scalar(select(func.uuidv7()))
    options: dict[str, Any] = {
        "method": new.method.name,
        "maxRows": new.max_rows or DEFAULT_ROWS,
        "features": None if new.features is None else list(dict.fromkeys(map(composed, new.features))),
        "classLabel": new.class_label,
        "seed": DEFAULT_SEED if new.seed is None else new.seed,
    }
    version_id = None if source.version is None else source.version.id
    queue = jobs.queue_for(KIND.kind, None if source.dataset is None else source.dataset.modality)
    needed = await extras.require(work, queue, needed_extras(model, signature), "modelVersionId", "The model")
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=model.owner_id,
            kind=KIND.kind,
            queue=queue,
            extras=needed,
            parameters={"explanationId": str(explanation_id), **options},
            dataset_id=None if source.dataset is None else source.dataset.id,
            dataset_version_id=version_id,
            model_version_id=model.id,
            inputs=[] if version_id is None else [version_id],
            requires_space=True,
        ),
    )
    if rows is not None:
        await work.run(insert(JobDocument).values(job_id=job.id, input=rows))
    values = {
        "id": explanation_id,
        "owner_id": model.owner_id,
        "created_by_id": work.viewer.maker_id,
        "job_id": job.id,
        "model_version_id": model.id,
        "run_id": model.run_id,
        "dataset_version_id": version_id,
        "item_id": new.item_id,
        "method": new.method,
    }
    await work.run(insert(Explanation).values(values))
    about = {
        **options,
        "model_version": ref("mversion", model.id),
        "dataset_version": None if version_id is None else ref("version", version_id),
        "item": None if new.item_id is None else ref("item", new.item_id),
        "rows": None if rows is None else len(rows),
        "job": ref("job", job.id),
    }
    work.record("create_explanation", "explanation", explanation_id, model.owner_id, after=about)
    return explanation_id, job.id
