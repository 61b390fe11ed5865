"""Run a pipeline: freeze the definition and create its job (and run, if it trains) in one transaction."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, bindparam, select
from sqlalchemy.dialects.postgresql import insert as upsert

from db.core.audit import ref
from db.core.checks import Checks, canonical_name
from db.core.work import Work
from db.errors import InvalidInput, WrongState, invalid
from db.services import experiments, extras, idempotency, jobs, models, output_datasets
from db.services.pipelines import contents, definitions, given_splits, joins, suitability
from db.services.pipelines.editing import lock, refuse_shipped
from db.services.studies import scheduling
from db.settings import DEFAULT_PRIORITY, MAX_PRIORITY, state_settings
from db.tables import DatasetProfile, DatasetVersion, Explanation, Export, ModelVersion, PipelineSnapshot
from db.tables.datasets import Modality
from db.tables.jobs import JobKind
from db.tables.pipelines import PipelineStatus

OPERATION = "runPipeline"
MAX_TIMEOUT = 7 * 86_400  # seconds

_EXISTING_SNAPSHOT = select(PipelineSnapshot.id).where(
    PipelineSnapshot.pipeline_id == bindparam("p_pipeline_id"), PipelineSnapshot.sha256 == bindparam("p_sha256")
)


TRAIN = jobs.declare(
    jobs.JobKindSpec(
        JobKind.TRAIN,
        title="training",
        outputs=(ModelVersion, Export, Explanation),
        on_begin=experiments.restart_points,
        on_change=scheduling.on_change,
        on_retry=scheduling.on_retry,
    )
)
PROCESS = jobs.declare(
    jobs.JobKindSpec(
        JobKind.PROCESS,
        title="processing",
        outputs=(DatasetVersion, DatasetProfile, Export),
        target="outputDatasetId",
        on_retry=output_datasets.lock_for_retry,
    )
)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run on what; `parameters` is {nodeKey: {name: value}}, applied to the definition before it is frozen."""

    pipeline_id: UUID
    dataset_version_id: UUID
    experiment_id: UUID | None = None
    model_name: str | None = None
    output_dataset_id: UUID | None = None
    parameters: dict[str, Any] | None = None
    seed: int | None = None
    priority: int = DEFAULT_PRIORITY
    timeout_seconds: float | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """What was created: a job, and a run if the pipeline trains; `target_dataset_id` gets a new version if it does not."""

    job_id: UUID
    run_id: UUID | None
    target_dataset_id: UUID | None


async def run(work: Work, request: RunRequest) -> RunResult:
    """Raises `NotFound`, `InvalidInput`, `WrongState`, `Conflict` or `QuotaExceeded`; the end of the unit of work `InsufficientCredits`."""
    work.viewer.require_write()
    request_input = {key: value for key, value in asdict(request).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, request.idempotency_key, request_input)
    if stored_answer is not None:
        return RunResult(*(UUID(stored_answer[key]) if stored_answer[key] else None for key in ("job", "run", "dataset")))  # pyright: ignore[reportArgumentType] - a job is always there
    prepared = await prepare(work, request)
    pipeline, version, dataset, training, definition = (
        prepared.pipeline,
        prepared.version,
        prepared.dataset,
        prepared.training,
        prepared.definition,
    )
    model_name = canonical_name(request.model_name or pipeline.name)
    if training is not None and training.problem_type is not None:
        existing = await models.problem_type(work, pipeline.owner_id, model_name)
        if existing is not None and existing is not training.problem_type:
            raise invalid("modelName", message=models.other_problem_type(model_name, existing, training.problem_type))
    snapshot_id = await ensure_snapshot(work, pipeline.id, pipeline.owner_id, definition)
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    parameters: dict[str, Any] = {"seed": seed, "parameters": request.parameters or {}}
    target_id = run_id = None
    if training is None:
        has_items = contents.writes_items(definition, prepared.steps)
        target_id = await _output_dataset_id(work, request, dataset, prepared.output, pipeline, has_items=has_items)
        parameters["outputDatasetId"] = str(target_id)
    else:
        parameters["modelName"] = model_name
    kind = (PROCESS if training is None else TRAIN).kind
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=pipeline.owner_id,
            kind=kind,
            queue=jobs.queue_for(kind, dataset.modality),
            extras=prepared.extras,
            priority=request.priority,
            timeout=request.timeout_seconds,
            parameters=parameters,
            dataset_id=dataset.id,
            dataset_version_id=version.id,
            pipeline_id=pipeline.id,
            snapshot_id=snapshot_id,
            inputs=prepared.inputs,
            requires_space=True,
        ),
    )
    if training is not None:
        run_id = await experiments.add_run(
            work,
            experiments.NewRun(
                owner_id=pipeline.owner_id,
                experiment_id=await experiment_id(work, request, pipeline.owner_id),
                job_id=job.id,
                dataset_id=dataset.id,
                dataset_version_id=version.id,
                seed=seed,
                hyperparameters=dict(training.parameters),
                config={
                    "pipeline": pipeline.name,
                    "pipelineVersion": pipeline.version,
                    "step": training.step.key,
                    "parameters": request.parameters or {},
                },
            ),
        )
    answer = {"job": str(job.id), "run": str(run_id) if run_id else None, "dataset": str(target_id) if target_id else None}
    await idempotency.remember(work, request.idempotency_key, answer)
    submitted = {
        "kind": kind,
        "pipeline": ref("pipeline", pipeline.id),
        "dataset_version": ref("version", version.id),
        "run": None if run_id is None else ref("run", run_id),
        "output_dataset": None if target_id is None else ref("dataset", target_id),
        "model_name": parameters.get("modelName"),
        "seed": seed,
        "parameters": request.parameters or {},
        "priority": request.priority,
    }
    work.record("run_pipeline", "job", job.id, job.owner_id, after=submitted)
    return RunResult(job.id, run_id, target_id)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a request names, locked against deletion and found to fit together. `definition` has the request's parameters applied."""

    pipeline: Row[Any]
    version: Row[Any]
    dataset: Row[Any]
    output: Row[Any] | None
    steps: definitions.Steps
    definition: definitions.Definition
    training: suitability.Training | None
    inputs: list[UUID]
    """The versions that the job reads."""
    extras: list[str]
    """What its worker must have."""


async def prepare(work: Work, request: RunRequest) -> Prepared:
    """Load and check what a request names. Raises `NotFound`, `InvalidInput` or `WrongState`."""
    pipeline = await lock(work, request.pipeline_id, to_run=True)
    refuse_shipped(pipeline, "pipelineId", "run")
    version, dataset, output = await _load_inputs(work, request)
    steps = await definitions.load_steps(work)
    applied, _ = definitions.apply_parameters(pipeline.definition, request.parameters)
    needed = await _require_extras(work, applied, steps, dataset.modality)
    joined = await joins.load(work, applied, steps, dataset.owner_id, version.file_columns)
    definition, training = _freeze(pipeline, joined, dataset, version, steps, request)
    inputs = list(dict.fromkeys([version.id, *joined.versions]))
    return Prepared(pipeline, version, dataset, output, steps, definition, training, inputs, sorted(needed))


async def _require_extras(work: Work, definition: definitions.Definition, steps: definitions.Steps, modality: Modality) -> set[str]:
    """Return the extras that the nodes need. Raises `InvalidInput` for one that would find no worker which has what it needs."""
    queue = jobs.queue_for(JobKind.TRAIN, modality)
    needed: set[str] = set()
    index = contents.first_of_videos(definition, steps, modality)
    if index is not None:
        if not await extras.can_read_videos(work, queue):
            node = definition["nodes"][index]
            raise invalid("pipelineId", message=f"Node {node['key']!r} of the pipeline reads frames. {extras.NO_VIDEO}")
        needed.add(extras.VIDEO)
    for node in definition["nodes"]:
        step = steps.get(node["step"])
        if step is not None and (extra := step.parameter_schema.get("x-extra")) is not None:
            needed |= {*await extras.require(work, queue, [extra], "pipelineId", f"Node {node['key']!r} of the pipeline")}
    return needed


async def _load_inputs(work: Work, request: RunRequest) -> tuple[Row[Any], Row[Any], Row[Any] | None]:
    """Load the version, its dataset and the output dataset, if one is named; lock both datasets against deletion."""
    return await output_datasets.load_inputs(work, request.dataset_version_id, request.output_dataset_id)


def _freeze(
    pipeline: Row[Any], joined: joins.Joined, dataset: Row[Any], version: Row[Any], steps: definitions.Steps, request: RunRequest
) -> tuple[definitions.Definition, suitability.Training | None]:
    """Return the definition with the parameters applied, and its training. Raise for every failure that is known before the job runs."""
    if pipeline.status is PipelineStatus.ARCHIVED:
        raise WrongState("ARCHIVED", "The pipeline is archived. Set its status to VALIDATED to run it again.")
    definition, issues = definitions.apply_parameters(pipeline.definition, request.parameters)
    checks = Checks()
    checks.issues.extend(definitions.completeness_issues(definition, steps))
    checks.issues.extend(definitions.soundness_issues(definition, steps, pipeline.modality))
    checks.issues.extend(contents.effect_issues(definition, steps, pipeline.modality))
    checks.issues.extend(contents.version_issues(definition, steps, dataset, version))
    checks.issues.extend(joined.issues)
    checks.issues.extend(definitions.unknown_columns(definition, steps, [column["name"] for column in joined.columns]))
    checks.issues.extend(given_splits.split_issues(definition, steps, joined.columns, version))
    checks.issues.extend(suitability.condition_issues(definition, steps, joined.columns))
    checks.issues.extend(suitability.formula_issues(definition, steps, joined.columns))
    training = suitability.find_training(definition, steps, joined.columns, dataset.target_column, dataset.problem_type)
    if training is not None and not checks.issues and not issues:
        target = dataset.target_column
        checks.issues.extend(suitability.suitability_issues(definition, steps, joined.columns, training, target))
    checks.issues[:] = [*issues, *definitions.locate(checks.issues, pipeline.definition, request.parameters)]
    if pipeline.status is PipelineStatus.DRAFT and not checks.issues:
        checks.add("pipelineId", message="The pipeline is a DRAFT. Complete its definition, or set its status to VALIDATED.")
    highest = state_settings().highest_priority(pipeline.owner_tier)
    if not 1 <= request.priority <= MAX_PRIORITY:
        checks.add("priority", message=f"The priority is {request.priority}; it goes from 1, the least urgent, to {highest}.")
    elif request.priority > highest:
        message = f"The priority is {request.priority}; jobs of the tier {pipeline.owner_tier.name} have at most {highest}."
        checks.add("priority", message=message)
    if request.timeout_seconds is not None and not 1 <= request.timeout_seconds <= MAX_TIMEOUT:
        checks.add("timeoutSeconds", message=f"A job may run from 1 to {MAX_TIMEOUT:,} seconds. Leave it out for the workers' own limit.")
    if pipeline.owner_id != dataset.owner_id:
        checks.add("datasetVersionId", message="Pipeline and dataset belong to different users; both must belong to one.")
    if request.model_name is not None:
        checks.name(request.model_name, "modelName")
    for name, value, needs_training in (
        ("experimentId", request.experiment_id, True),
        ("modelName", request.model_name, True),
        ("outputDatasetId", request.output_dataset_id, False),
    ):
        if value is not None and (training is not None) is not needs_training:
            explanation = "does not train, so there is no run and no model" if needs_training else "trains a model and writes no dataset"
            checks.add(name, message=f"This pipeline {explanation}. Leave this out.")
    checks.raise_if_invalid()
    return definition, training


async def ensure_snapshot(work: Work, pipeline_id: UUID, owner_id: UUID, definition: definitions.Definition) -> UUID:
    """Return the id of the pipeline's snapshot of this definition, inserted where missing."""
    digest = definitions.sha256(definition)
    parameters = {"p_pipeline_id": pipeline_id, "p_sha256": digest}
    # It mostly exists. An upsert that locks its row would serialize runs of the pipeline.
    if (existing_id := await work.scalar(_EXISTING_SNAPSHOT, parameters)) is not None:
        return existing_id
    statement = upsert(PipelineSnapshot).values(pipeline_id=pipeline_id, owner_id=owner_id, sha256=digest, definition=definition)
    created_id = await work.scalar(statement.on_conflict_do_nothing().returning(PipelineSnapshot.id))
    return created_id if created_id is not None else await work.scalar(_EXISTING_SNAPSHOT, parameters)


async def experiment_id(work: Work, request: RunRequest, owner_id: UUID) -> UUID:
    """Return the id of the experiment that the request names, or of the owner's default one. Raises `NotFound` or `InvalidInput`."""
    if request.experiment_id is None:
        return await experiments.default_experiment(work, owner_id)
    owned_id = await experiments.owned_experiment(work, owner_id, request.experiment_id)
    if owned_id is None:
        raise _owner_mismatch("experimentId", "experiment")
    return owned_id


async def _output_dataset_id(
    work: Work, request: RunRequest, dataset: Row[Any], output: Row[Any] | None, pipeline: Row[Any], *, has_items: bool
) -> UUID:
    """Return the dataset that gets the new version; create one where none is named."""
    if request.output_dataset_id is not None:
        output_id = output_datasets.require_same_owner(request.output_dataset_id, output, dataset)
        if has_items and output is not None and output.modality is not dataset.modality:
            message = f"The pipeline writes {dataset.modality.name} items, and the output dataset holds {output.modality.name} data. Choose another, or none."
            raise invalid("outputDatasetId", message=message)
        return output_id
    return await output_datasets.create(
        work, dataset, pipeline.name, f"Made from {dataset.name} by the pipeline {pipeline.name}.", has_items=has_items
    )


def _owner_mismatch(field: str, kind: str) -> InvalidInput:
    return invalid(field, message=f"The {kind} belongs to another user than the dataset; both must belong to one.")
