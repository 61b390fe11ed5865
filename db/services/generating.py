"""Generate a dataset version: a GENERATE job writes a file of synthetic data and reads it as an ingest does."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from db.core.audit import ref
from db.core.checks import Checks
from db.core.work import Work
from db.errors import invalid
from db.services import datasets, idempotency, jobs, versions
from db.services.generators import GENERATORS, Generator
from db.services.pipelines.definitions import parameter_issues
from db.tables import DatasetProfile, DatasetVersion, SchemaProposal
from db.tables.datasets import DatasetSource, DatasetVersionStatus
from db.tables.jobs import JobKind

OPERATION = "generateDataset"
MAX_SEED = 2**32 - 1

GENERATE = jobs.declare(
    jobs.JobKindSpec(
        JobKind.GENERATE,
        title="generation",
        outputs=(DatasetVersion, DatasetProfile, SchemaProposal),
        on_change=versions.follow_ingest,
        on_retry=versions.reopen,
    )
)


@dataclass(frozen=True, slots=True)
class NewGeneration:
    """The data to generate, into a dataset that exists or a new one of this name. Without a seed, one is drawn and kept with the job."""

    generator: str
    dataset_id: UUID | None = None
    name: str | None = None
    owner_id: UUID | None = None
    parameters: dict[str, Any] | None = None
    seed: int | None = None
    label: str | None = None
    idempotency_key: str | None = None


async def generate(work: Work, new: NewGeneration) -> tuple[UUID, UUID]:
    """Add a PENDING version and submit the job that fills it; return the ids of both.

    Raises `NotFound`, `InvalidInput`, `NameTaken`, `Conflict` or `QuotaExceeded`; the end of the unit of work raises `InsufficientCredits`.
    """
    work.viewer.require_write()
    request_input = {key: value for key, value in asdict(new).items() if key != "idempotency_key"}
    stored_answer = await idempotency.recall(work, OPERATION, new.idempotency_key, request_input)
    if stored_answer is not None:
        return UUID(stored_answer["version"]), UUID(stored_answer["job"])
    generator, parameters, seed, label = _validated(new)
    dataset_id = new.dataset_id
    if dataset_id is None:
        new_dataset = datasets.NewDataset(
            name=new.name or "",
            modality=generator.modality,
            problem_type=generator.problem_type,
            target_column=generator.target_column,
            source=DatasetSource.GENERATED,
            owner_id=new.owner_id,
        )
        dataset_id = (await datasets.insert_new(work, new_dataset)).id
    dataset = await datasets.lock(work, dataset_id)
    if dataset.modality is not generator.modality:
        raise invalid(
            "datasetId",
            message=f"The dataset holds {dataset.modality.name} data, and {generator.key!r} generates {generator.modality.name}.",
        )
    version_id, number = await versions.add(
        work,
        dataset_id,
        label=label,
        status=DatasetVersionStatus.PENDING,
        source=DatasetSource.GENERATED,
        original_filename=generator.filename,
        content_type=generator.content_type,
    )
    job = await jobs.submit(
        work,
        jobs.NewJob(
            owner_id=dataset.owner_id,
            kind=GENERATE.kind,
            queue=jobs.queue_for(GENERATE.kind, dataset.modality),
            parameters={"generator": generator.key, "parameters": parameters, "seed": seed},
            dataset_id=dataset_id,
            dataset_version_id=version_id,
            requires_space=True,
        ),
    )
    await idempotency.remember(work, new.idempotency_key, {"version": str(version_id), "job": str(job.id)})
    generated = {
        "dataset": ref("dataset", dataset_id),
        "number": number,
        "generator": generator.key,
        "parameters": parameters,
        "seed": seed,
    }
    work.record("generate_dataset", "version", version_id, dataset.owner_id, after={**generated, "job": ref("job", job.id)})
    return version_id, job.id


def _validated(new: NewGeneration) -> tuple[Generator, dict[str, Any], int, str | None]:
    checks = Checks()
    if (new.dataset_id is None) == (new.name is None):
        checks.add("datasetId", message="Give either `datasetId`, to add a version to a dataset, or the `name` of a new dataset.")
    if new.owner_id is not None and new.name is None:
        checks.add("ownerId", message="A dataset that exists has its owner; `ownerId` is for a new one.")
    label = None if new.label is None else checks.name(new.label, "label")
    if new.seed is not None and not 0 <= new.seed <= MAX_SEED:
        checks.add("seed", message=f"A seed is from 0 to {MAX_SEED}; leave it out to have one drawn.")
    generator = GENERATORS.get(new.generator)
    if generator is None:
        checks.add("generator", message=f"There is no generator {new.generator[:100]!r}. There are: {', '.join(GENERATORS)}.")
        checks.raise_if_invalid()
        raise AssertionError
    given = {} if new.parameters is None else new.parameters
    issues = parameter_issues(generator, given, "parameters", noun="generator")
    checks.issues += issues
    parameters = {} if issues else generator.with_defaults(given)
    for name, message in generator.faults(parameters).items() if parameters else ():
        checks.add("parameters", name, message=message)
    checks.raise_if_invalid()
    return generator, parameters, secrets.randbelow(MAX_SEED + 1) if new.seed is None else new.seed, label
